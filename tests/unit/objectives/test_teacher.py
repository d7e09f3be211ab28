"""The teacher's moving average against m * teacher + (1 - m) * student in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from fuse_examples.imaging.oai_example.objectives.teacher import start_teacher, update_teacher


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.Flatten(), nn.LazyLinear(4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
    )


def used_network(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    net = network(seed).to(dtype)
    net(torch.randn(2, 1, 5, 5, 5, dtype=dtype))
    return net


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.5, 0.9, 0.996, 0.9995, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_parameters_and_statistics_follow_by_one_average(momentum: float, dtype: torch.dtype, tolerance: float) -> None:
    student, teacher = used_network(0, dtype), used_network(1, dtype)
    expected = {name: tensor.double().numpy().copy() for name, tensor in teacher.state_dict().items() if tensor.is_floating_point()}
    for _ in range(10):
        student(torch.randn(2, 1, 5, 5, 5, dtype=dtype) * 3 + 1)  # moves the running statistics
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter))
        for name, tensor in student.state_dict().items():
            if name in expected:
                expected[name] = momentum * expected[name] + (1 - momentum) * tensor.double().numpy()
        update_teacher(student, teacher, momentum)
    assert {"1.running_mean", "1.running_var", "1.weight", "0.weight"} <= expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(teacher.state_dict()[name].numpy(), values, rtol=tolerance, atol=tolerance / 10, err_msg=name)


def test_counters_are_copied() -> None:
    student, teacher = used_network(), start_teacher(used_network())
    student(torch.randn(2, 1, 5, 5, 5))
    update_teacher(student, teacher, 0.9)
    assert teacher[1].num_batches_tracked == student[1].num_batches_tracked == 2


def test_update_leaves_the_student_and_makes_no_graph() -> None:
    student = used_network()
    teacher = start_teacher(student)
    with torch.no_grad():
        student[0].weight.add_(1)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    update_teacher(student, teacher, 0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert all(not tensor.requires_grad and tensor.grad_fn is None for tensor in [*teacher.parameters(), *teacher.buffers()])


def test_teacher_starts_as_a_copy_without_gradients_in_evaluation_mode() -> None:
    student = used_network().train()
    teacher = start_teacher(student)
    assert student.state_dict().keys() == teacher.state_dict().keys()
    assert all(torch.equal(tensor, teacher.state_dict()[name]) for name, tensor in student.state_dict().items())
    assert all(not parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not any(module.training for module in teacher.modules())
    assert student.training
    with torch.no_grad():
        student[0].weight.zero_()
    assert teacher[0].weight.abs().sum() > 0, "the copy shares memory with the student"


def test_networks_built_differently_are_refused_with_all_differences() -> None:
    student = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.BatchNorm1d(2)})
    teacher = nn.ModuleDict({"a": nn.Linear(2, 4), "c": nn.Linear(1, 1, bias=False)})
    with pytest.raises(ValueError, match="built like the student") as raised:
        update_teacher(student, teacher, 0.5)
    message = str(raised.value)
    assert "only the student has b.bias, b.num_batches_tracked, b.running_mean, b.running_var, b.weight" in message
    assert "only the teacher has c.weight" in message
    assert "a.weight is (3, 2) in the student, (4, 2) in the teacher" in message


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_momentum_outside_its_range_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match="momentum must lie between 0 and 1"):
        update_teacher(nn.Linear(1, 1), nn.Linear(1, 1), momentum)

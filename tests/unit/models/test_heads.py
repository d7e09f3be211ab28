"""The heads behind a backbone, against formulas written out."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.heads import ClassificationHeads, DINOProjectionHead, SegmentationHead


def test_segmentation_head_is_one_linear_map_per_voxel() -> None:
    torch.manual_seed(0)
    head = SegmentationHead(5, 3)
    decoded = torch.randn(2, 5, 2, 3, 4)
    expected = torch.einsum("bcdhw,nc->bndhw", decoded, head.conv.weight[:, :, 0, 0, 0]) + head.conv.bias.view(1, 3, 1, 1, 1)
    assert torch.allclose(head(decoded), expected, atol=1e-6)


class TestClassificationHeads:
    def test_each_target_has_its_own_linear_map(self) -> None:
        torch.manual_seed(0)
        heads = ClassificationHeads(6, {"V00COHORT": 2, "side": 3}).eval()
        features = torch.randn(4, 6)
        logits = heads(features)
        assert {target: tuple(value.shape) for target, value in logits.items()} == {"V00COHORT": (4, 2), "side": (4, 3)}
        state = heads.state_dict()
        for target, value in logits.items():
            expected = features @ state[f"heads.target_{target}.1.weight"].T + state[f"heads.target_{target}.1.bias"]
            assert torch.allclose(value, expected, atol=1e-6)

    def test_a_hidden_layer(self) -> None:
        torch.manual_seed(0)
        heads = ClassificationHeads(6, {"a": 2}, hidden_dim=5).eval()
        features = torch.randn(1, 6)
        w1, b1, w2, b2 = heads.state_dict().values()
        assert torch.allclose(heads(features)["a"], (features @ w1.T + b1).clamp(min=0) @ w2.T + b2, atol=1e-6)

    @pytest.mark.parametrize(("hidden_dim", "distinct"), [(None, 1), (4, 2)])
    def test_dropout_in_training_only(self, hidden_dim: int | None, distinct: int) -> None:
        torch.manual_seed(0)
        heads = ClassificationHeads(64, {"a": 2}, hidden_dim=hidden_dim, dropout=0.5)
        features = torch.randn(2, 64)
        assert not torch.equal(heads.train()(features)["a"], heads(features)["a"])
        assert torch.equal(heads.eval()(features)["a"], heads(features)["a"])
        assert [module.p for module in heads.modules() if isinstance(module, torch.nn.Dropout)] == [0.5] * distinct

    @given(st.lists(st.text(max_size=12), min_size=1, max_size=4, unique=True))
    @settings(max_examples=40, deadline=None)
    def test_any_column_name_is_a_target(self, names: list[str]) -> None:
        names = [name for name in names if name.isprintable()] or ["x"]
        heads = ClassificationHeads(2, {name: place + 1 for place, name in enumerate(names)}).eval()
        logits = heads(torch.ones(1, 2))
        assert {name: value.shape[1] for name, value in logits.items()} == {name: place + 1 for place, name in enumerate(names)}
        assert len(heads.state_dict()) == 2 * len(names)

    @pytest.mark.parametrize("name", ["a.b", "a%2Eb", "keys", "training", "type", "", "V00 COHORT/é", "_", "heads"])
    def test_awkward_column_names(self, name: str) -> None:
        heads = ClassificationHeads(2, {name: 3, "a_b": 2})
        assert heads(torch.ones(1, 2))[name].shape == (1, 3)
        copy.deepcopy(heads).load_state_dict(heads.state_dict())

    @pytest.mark.parametrize("dropout", [-0.1, 1.0])
    def test_an_impossible_dropout_is_refused(self, dropout: float) -> None:
        with pytest.raises(ConfigError, match=rf"dropout is {dropout}; it is at least 0 and less than 1\."):
            ClassificationHeads(2, {"a": 2}, dropout=dropout)


def written_out(head: DINOProjectionHead, features: Tensor, n_layers: int, use_batch_norm: bool) -> Tensor:
    """The head's formula in float64, from its tensors by name."""
    state = {name: value.double() for name, value in head.state_dict().items()}
    x = features.double()
    step = 3 if use_batch_norm else 2
    for layer in range(n_layers):
        at = layer * step
        x = x @ state[f"layers.{at}.weight"].T + state[f"layers.{at}.bias"]
        if layer == n_layers - 1:
            break
        if use_batch_norm:
            x = (x - x.mean(0)) / (((x - x.mean(0)) ** 2).mean(0) + 1e-5).sqrt()
            x = x * state[f"layers.{at + 1}.weight"] + state[f"layers.{at + 1}.bias"]
        x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    x = x / (x**2).sum(1, keepdim=True).sqrt()
    length = state["last_layer.parametrizations.weight.original0"]
    direction = state["last_layer.parametrizations.weight.original1"]
    return x @ (length * direction / (direction**2).sum(1, keepdim=True).sqrt()).T


class TestDINOProjectionHead:
    @pytest.mark.parametrize("norm_last_layer", [True, False])
    @pytest.mark.parametrize("use_batch_norm", [True, False])
    @pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
    def test_equals_the_formula(self, n_layers: int, use_batch_norm: bool, norm_last_layer: bool) -> None:
        torch.manual_seed(n_layers)
        head = DINOProjectionHead(5, 7, 4, 11, n_layers, use_batch_norm=use_batch_norm, norm_last_layer=norm_last_layer)
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                if not (norm_last_layer and name.endswith("original0")):
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        features = torch.randn(6, 5)
        logits = head(features)
        assert torch.allclose(logits.double(), written_out(head, features, n_layers, use_batch_norm), atol=1e-5)
        if norm_last_layer:
            assert logits.abs().max() <= 1 + 1e-6  # cosines

    def test_names_and_shapes(self) -> None:
        head = DINOProjectionHead(512, 512, 64, 2048)
        weights = "last_layer.parametrizations.weight"
        layers = [f"layers.{place}.{kind}" for place in (0, 2, 4) for kind in ("weight", "bias")]
        assert list(head.state_dict()) == [*layers, f"{weights}.original0", f"{weights}.original1"]
        assert head.state_dict()[f"{weights}.original0"].shape == (2048, 1)
        assert head.state_dict()[f"{weights}.original1"].shape == (2048, 64)

    @pytest.mark.parametrize("norm_last_layer", [True, False])
    def test_the_prototypes_lengths_start_at_one_and_are_learned_or_not(self, norm_last_layer: bool) -> None:
        head = DINOProjectionHead(3, 4, 2, 5, norm_last_layer=norm_last_layer)
        length = head.last_layer.parametrizations["weight"].original0
        assert torch.equal(length, torch.ones(5, 1))
        assert length.requires_grad is not norm_last_layer
        head(torch.randn(4, 3)).sum().backward()
        assert (length.grad is None) is norm_last_layer
        assert head.layers[0].weight.grad is not None

    def test_initialisation(self) -> None:
        torch.manual_seed(0)
        head = DINOProjectionHead(300, 300, 300, 4)
        for layer in (head.layers[0], head.layers[2], head.layers[4]):
            assert abs(layer.weight.std().item() - 0.02) < 5e-4
            assert torch.equal(layer.bias, torch.zeros(300))

    def test_float32_under_autocast(self) -> None:
        torch.manual_seed(0)
        head = DINOProjectionHead(16, 32, 8, 64)
        features = torch.randn(4, 16).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(features)
        assert logits.dtype == torch.float32
        assert torch.equal(logits, head(features.float()))

    def test_a_teacher_is_a_copy(self) -> None:
        student = DINOProjectionHead(3, 4, 2, 5)
        teacher = copy.deepcopy(student)
        features = torch.randn(1, 3)  # a batch of one
        assert torch.equal(student(features), teacher(features))
        with torch.no_grad():
            teacher.last_layer.parametrizations["weight"].original1.add_(1)
        assert not torch.equal(student(features), teacher(features))

    def test_no_layers_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"n_layers is 0; a projection head has at least 1\."):
            DINOProjectionHead(3, n_layers=0)

"""The convolution that oneDNN computes also for a batch of one, against PyTorch's own."""

from unittest import mock

import pytest
import torch
from torch import nn

from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.models.convolution import Conv3d


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(("kernel", "options"), [(3, {"padding": 1}), (1, {"bias": False}), (3, {"stride": 2, "padding": 1})])
def test_values_and_gradients_are_those_of_torch(batch: int, memory_format: torch.memory_format, kernel: int, options: dict) -> None:
    torch.manual_seed(0)
    ours = Conv3d(2, 5, kernel, **options)
    torchs = nn.Conv3d(2, 5, kernel, **options).double()
    torchs.load_state_dict(ours.state_dict())
    image = torch.randn(batch, 2, 6, 7, 8).to(memory_format=memory_format)
    found, expected = ours(image), torchs(image.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(found.shape)
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for one, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-4)


def test_a_small_case_alone_takes_the_kernels_that_a_batch_takes() -> None:
    network = build_backbone("unet3d", width=2).eval()
    with mock.patch.object(torch, "mkldnn_convolution", wraps=torch.mkldnn_convolution) as kernel, torch.inference_mode():
        network.encode(torch.zeros(1, 1, 16, 16, 16))
        assert kernel.call_count == 8  # two in each of four stages
        network.encode(torch.zeros(2, 1, 16, 16, 16))
        assert kernel.call_count == 8


def test_reduced_precision_and_tracing_take_the_plain_way() -> None:
    image, convolution = torch.randn(1, 1, 6, 6, 6), Conv3d(1, 2, 3, padding=1)
    with mock.patch.object(torch, "mkldnn_convolution", side_effect=AssertionError):
        with torch.autocast("cpu", torch.bfloat16):
            assert convolution(image).dtype == torch.bfloat16
        torch.jit.trace(convolution, image, check_trace=False)

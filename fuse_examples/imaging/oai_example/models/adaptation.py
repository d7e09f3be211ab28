"""Fitting a tensor of a weight file into a network that differs from the file's in one known way, and saying so."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

_TABLE = "relative_position_bias_table"
_INDEX = "relative_position_index"


@dataclass(frozen=True)
class Adapted:
    """A tensor that was changed to fit, and what was done, as a clause for the report."""

    tensor: Tensor
    how: str


def adapt(name: str, found: Tensor, wanted: Tensor, in_channels: int) -> Adapted | None:
    """Fit `found`, of a file, to the shape of `wanted`, of a network; None where no adaptation is known.

    * A convolution of the image: one input channel is repeated over the network's n and divided by n, so that n equal channels give
      what one gave; several input channels are added up for a network that has one, so that it computes what n equal channels gave.
    * A table of relative positions (`Liu et al. 2021, arXiv:2103.14030`), (2w - 1)³ offsets by heads, for another cubic window w:
      linear interpolation over the offsets, the outermost onto the outermost.
    * The index into that table, which follows from the window: the network's own.
    """
    if name.endswith(_INDEX) and found.ndim == wanted.ndim == 2 and not found.is_floating_point():
        return Adapted(
            wanted.clone(), f"the network's own kept, which follows from its window: file {_shape(found)}, network {_shape(wanted)}"
        )
    if not found.is_floating_point():
        return None
    if name.endswith(_TABLE):
        return _other_window(found, wanted)
    return _other_channels(found, wanted, in_channels)


def _other_channels(found: Tensor, wanted: Tensor, in_channels: int) -> Adapted | None:
    if found.ndim != 5 or wanted.ndim != 5 or wanted.shape[1] != in_channels:
        return None
    if found.shape[0] != wanted.shape[0] or found.shape[2:] != wanted.shape[2:]:
        return None
    if found.shape[1] == 1:
        inflated = found.float().expand(wanted.shape) / in_channels
        return Adapted(inflated.to(wanted.dtype), f"1 input channel repeated over {in_channels} and divided by {in_channels}")
    if in_channels == 1:
        return Adapted(found.float().sum(1, keepdim=True).to(wanted.dtype), f"{found.shape[1]} input channels added up into 1")
    return None


def _other_window(found: Tensor, wanted: Tensor) -> Adapted | None:
    if found.ndim != 2 or wanted.ndim != 2 or found.shape[1] != wanted.shape[1]:
        return None
    before, after = _edge(found.shape[0]), _edge(wanted.shape[0])
    if before is None or after is None:
        return None
    table = found.float().T.reshape(1, -1, before, before, before)
    resized = F.interpolate(table, size=(after, after, after), mode="trilinear", align_corners=True)
    how = f"linearly interpolated from window {(before + 1) // 2} to window {(after + 1) // 2}"
    return Adapted(resized.reshape(-1, after**3).T.contiguous().to(wanted.dtype), how)


def _edge(offsets: int) -> int | None:
    """The odd number whose cube is `offsets`, if there is one."""
    edge = round(offsets ** (1 / 3))
    return edge if edge % 2 == 1 and edge**3 == offsets else None


def _shape(tensor: Tensor) -> str:
    return "×".join(str(length) for length in tensor.shape)

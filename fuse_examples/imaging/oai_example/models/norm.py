"""Normalisation with batch norm's state-dict keys and a choice of whose statistics are used.

The choice changes no key and no shape, so weights trained with one kind load under another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.errors import ConfigError

Statistics = Literal["running", "batch", "instance"]


class Norm3d(nn.BatchNorm3d):
    """Normalise each channel of (B, C, D, H, W) and scale it by a learned weight and bias, both (C,).

    `statistics` says whose mean and variance are used:

    * "running": batch normalisation. Training takes the batch's statistics and moves the running ones; evaluation takes the running
      ones, so no case depends on its batch mates (Ioffe and Szegedy 2015, arXiv:1502.03167).
    * "batch": the batch's statistics, in evaluation too, as the published SuPreM and Models Genesis U-Nets compute it. Predictions
      depend on the batch's other cases. Training moves the running statistics; evaluation leaves them alone.
    * "instance": each case's own statistics, in training and evaluation alike (Ulyanov et al. 2016, arXiv:1607.08022). The running
      statistics are neither used nor moved: they stay as they were made or loaded.

    A batch of one works wherever a channel has more than one value to take a variance of. Statistics accumulate in float32 under
    bfloat16 autocast; the output keeps the input's dtype and memory format.

    Raises:
        ConfigError: where the statistics would be those of a single value, which normalises every input to the same zero.
    """

    def __init__(self, channels: int, statistics: Statistics = "running") -> None:
        if statistics not in get_args(Statistics):
            raise ConfigError(f"norm_statistics is {statistics!r}; it is one of {', '.join(get_args(Statistics))}.")
        super().__init__(channels)
        self.statistics = statistics
        self._moves = True

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, D, H, W); the shape stays."""
        self._check_input_dim(input)
        if self.statistics == "running" and not self.training:
            return super().forward(input)
        self._check_values(input)
        if self.statistics == "instance":
            return self._by_instance(input)
        if self.training and self._moves:
            return super().forward(input)
        if self.training:
            # Copies take the moves: the backward pass counts the tensors that a pass has kept, and these are among them.
            mean, var = self.running_mean, self.running_var
            assert mean is not None
            assert var is not None
            return F.batch_norm(input, mean.clone(), var.clone(), self.weight, self.bias, training=True, eps=self.eps)
        return F.batch_norm(input, None, None, self.weight, self.bias, training=True, eps=self.eps)

    def _by_instance(self, input: Tensor) -> Tensor:
        # F.instance_norm copies channels-last input to contiguous and back. Batch norm of one case is the same thing and keeps the
        # format: 40 ms instead of 58 forward and backward on (2, 32, 40, 64, 64) with two CPU threads.
        if input.shape[0] > 1 and input.is_contiguous():
            return F.instance_norm(input, None, None, self.weight, self.bias, use_input_stats=True, eps=self.eps)
        cases = [F.batch_norm(case, None, None, self.weight, self.bias, training=True, eps=self.eps) for case in torch.split(input, 1)]
        return cases[0] if len(cases) == 1 else torch.cat(cases)

    def _check_values(self, input: Tensor) -> None:
        own = self.statistics == "instance"
        values = input[0, 0].numel() * (1 if own else input.shape[0])
        if values < 2:
            size = "×".join(str(length) for length in input.shape[2:])
            raise ConfigError(
                f"norm_statistics: {self.statistics} met a feature map of {size} voxels{'' if own else ' in a batch of one'}: "
                f"a single value has no variance. Use a larger input size or crop{'' if own else ' or a larger batch'}."
            )

    def extra_repr(self) -> str:
        """Channels, eps and the kind of statistics, for print(model)."""
        return f"{self.num_features}, eps={self.eps}, statistics={self.statistics}"


@contextmanager
def unmoved_statistics(network: nn.Module) -> Iterator[None]:
    """Within, passes in training mode compute the same and leave running statistics and their counters alone."""
    norms = [module for module in network.modules() if isinstance(module, Norm3d)]
    for norm in norms:
        norm._moves = False
    try:
        yield
    finally:
        for norm in norms:
            norm._moves = True

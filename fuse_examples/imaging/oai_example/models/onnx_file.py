"""A network as an ONNX file, held against PyTorch before anyone uses it."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.errors import UserError

TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime and PyTorch, relative to the largest output."""


def write_onnx(
    network: nn.Module, path: Path, *, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str], metadata: Mapping[str, str]
) -> float:
    """Write `network` as ONNX, run the file with ONNX Runtime, and compare.

    Args:
        network: float32 tensors to a tensor, or to a tuple of as many tensors as `outputs`; in evaluation mode, on the CPU.
        path: the file; nothing is left there where the comparison fails.
        inputs: names of the network's inputs in their order, with the shape of one case; the batch before it stays free.
        outputs: names of the file's outputs.
        metadata: texts that the file carries.

    Returns:
        The largest difference, relative to the largest output.

    Raises:
        UserError: the packages are not installed, or the file computes something else than the network.
    """
    program = _exported(network, inputs, outputs)
    program.model.metadata_props.update(metadata)
    try:
        program.save(path, external_data=False)
        difference = _difference(network, path, inputs)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path.name}: ONNX Runtime differs from PyTorch by {difference:.2g} of the largest output, more than {TOLERANCE:g}. "
                "Nothing was kept. Other versions of torch, onnxscript or onnxruntime may compute it rightly (requirements.txt has the "
                "tested ones)."
            )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return difference


def _exported(network: nn.Module, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> Any:
    try:
        import onnxruntime  # noqa: F401  # before the minutes that an export may take
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX needs the package {error.name}: install onnx, onnxscript and onnxruntime (requirements.txt).") from error
    batch = torch.export.Dim("batch")
    with _quiet():
        return torch.onnx.export(
            network,
            tuple(torch.zeros(2, *shape) for shape in inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )


def _difference(network: nn.Module, path: Path, inputs: Mapping[str, Sequence[int]]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    draw = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in (1, 2):
        given = {name: torch.randn(batch, *shape, generator=draw) for name, shape in inputs.items()}
        with torch.no_grad():
            computed = network(*given.values())
        expected = [computed] if isinstance(computed, Tensor) else list(computed)
        run = session.run(None, {name: value.numpy() for name, value in given.items()})
        for found, wanted in zip(map(torch.from_numpy, run), expected, strict=True):
            if found.shape != wanted.shape:
                return float("inf")
            # A difference that is not a number is not below any limit.
            worst = max(worst, float((found - wanted).abs().max().nan_to_num(nan=float("inf")) / wanted.abs().max().clamp(min=1e-12)))
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about packages that are not needed and its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

"""TensorBoard's HParams tab for many runs: what each was made with, and what it reached."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


def write_grid(folder: Path, rows: Sequence[tuple[str, Mapping[str, str | float], Mapping[str, float]]]) -> None:
    """Write one entry for each run into a folder of its own, in the place of earlier entries.

    Args:
        folder: of all entries; `tensorboard --logdir` on it or above it shows the tab.
        rows: name of the run, settings, and figures.
    """
    for name, settings, figures in rows:
        for earlier in (folder / name).glob("events.out.tfevents.*"):
            earlier.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with SummaryWriter(str(folder / name)) as writer:
                for summary in hparams(dict(settings), dict(figures)):  # type: ignore[no-untyped-call]  # torch's has no annotations
                    writer._get_file_writer().add_summary(summary)
                for title, value in figures.items():
                    writer.add_scalar(title, value, 0)

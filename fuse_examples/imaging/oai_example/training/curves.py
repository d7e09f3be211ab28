"""Curves read back from a run's event files."""

import json
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from fuse_examples.imaging.oai_example.errors import DataError


def read_validation_curve(folder: Path) -> tuple[tuple[int, float], ...]:
    """Return (optimiser steps done, score) of every validation of the metric that chose the best epoch, in the order of steps.

    A run that was cut off logs some steps again when it goes on; the later value counts. Raises DataError where the curve is missing.
    """
    try:
        monitor = json.loads((folder / "val_metrics.json").read_text())["monitor"]
        events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
        events.Reload()
        found = events.Scalars(monitor)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: its validation curve cannot be read ({error}). Train the run again.") from error
    # The logged step is that of the last batch, counted from 0.
    return tuple(sorted({event.step + 1: round(float(event.value), 6) for event in found}.items()))

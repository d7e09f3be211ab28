"""What is said at the end of training."""

import logging
from pathlib import Path
from typing import Any

import pytest

from fuse_examples.imaging.oai_example.stages.fitting import log_best_epoch
from fuse_examples.imaging.oai_example.training.checkpoint_writer import CheckpointWriter


@pytest.mark.parametrize(
    ("best", "line"),
    [
        ({"epoch": 4}, "best epoch: 5; to test it: test_ckpt=run/checkpoints/best.ckpt"),
        (None, "no epoch could be scored on the validation folds, so there is no best.ckpt; the last is run/checkpoints/last.ckpt"),
    ],
)
def test_the_last_line_names_a_file_that_is_there(best: dict[str, Any] | None, line: str, caplog: pytest.LogCaptureFixture) -> None:
    writer = CheckpointWriter(Path("run"), {}, monitor="val/dice")
    writer.best = best
    with caplog.at_level(logging.INFO):
        log_best_epoch(writer)
    assert caplog.messages == [line]

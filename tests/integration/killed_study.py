"""A study of label efficiency as a process of its own that kills itself at a given place; for `test_label_efficiency_killed.py`."""

import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from killed_stage import dying_at
from test_label_efficiency import in_this_process, start

from fuse_examples.imaging.oai_example.stages import label_efficiency as stage
from fuse_examples.imaging.oai_example.tasks.segmentation import SegmentationTask

STEPS = 6  # of each run


def be_study(results: Path, experiment: str, place: tuple[str, int] | None, errors: Path) -> None:
    """Do what is left of the study, on one thread and all of its runs in this process, up to `place`, if there is one.

    A place is the number-th time (from 0) that a batch is trained on ("batch"), or that a file is about to get its name ("file").
    """
    with errors.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if place is not None and place[0] == "batch":
        SegmentationTask.training_step = dying_at(SegmentationTask.training_step, place[1], before=True)  # type: ignore[method-assign]
    elif place is not None:
        os.replace = dying_at(os.replace, place[1], before=True)
    stage.do_cells = in_this_process  # type: ignore[assignment]
    sys.exit(start(results, "segmentation", experiment=experiment, seeds=[0], steps=STEPS))

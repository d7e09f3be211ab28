"""A tiny run with ClearML, started as a process of its own by test_clearml.py: `clearml_run.py FOLDER EPOCHS [UPLOAD [FAIL]]`."""

import json
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from tiny import TinyTask, tiny_run

from fuse_examples.imaging.oai_example.training.clearml_tracker import clearml_tracker
from fuse_examples.imaging.oai_example.training.trackers import RunTensorBoard, log_image


class Task(TinyTask):
    def on_train_end(self) -> None:
        log_image(self.loggers, "val/examples", np.zeros((4, 4), np.uint8), self.global_step)
        if "FAIL" in sys.argv:
            raise RuntimeError("of the patient Jane Doe")


def main() -> None:
    folder, n_epochs = Path(sys.argv[1]), int(sys.argv[2])
    last = folder / "checkpoints" / "last.ckpt"
    resumed = last.exists()
    torch.manual_seed(5)
    before = torch.get_rng_state(), {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}, sys.excepthook
    tracker = clearml_tracker(
        project="knees",
        experiment="tiny",
        config_dump={"seed": 5, "csv_path": "knees.csv"},
        environment={"torch": torch.__version__},
        upload_images="UPLOAD" in sys.argv,
        task_id=json.loads((folder / "session.json").read_text())["id"] if resumed else None,
    )
    after = torch.get_rng_state(), {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}, sys.excepthook
    untouched = bool(torch.equal(before[0], after[0])) and before[1:] == after[1:]
    print("the patient Jane Doe on standard output")
    print("the patient Jane Doe on standard error", file=sys.stderr)
    (folder / "session.json").write_text(json.dumps({"id": tracker.version, "untouched": untouched}))
    task = Task([0.1, 0.2, 0.3])
    tiny_run(
        folder,
        task,
        n_epochs=n_epochs,
        loggers=[RunTensorBoard(folder), tracker],
        resume_from=last if resumed else None,
        log_every_n_steps=1,
    )
    tracker.close()


main()

"""What the MCP server can do, as plain functions of text that return plain data; nothing here knows the protocol.

A mistake is data too: {"ok": false, "problems": [...]}. Nothing that a caller names is executed, and no path outside the allowed folders is
opened: weights are loaded as data alone, scans and checkpoints only where links do not lead out.
"""

import logging
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.service.allowed_paths import AllowedFolder, shortened
from fuse_examples.imaging.oai_example.service.predicting import predict

Answer = dict[str, Any]
log = logging.getLogger(__name__)


def answering(work: Callable[..., Answer]) -> Callable[..., Answer]:
    """Turn what `work` raises into data; a mistake of ours is told by its kind, and its traceback goes to the log."""

    @wraps(work)
    def answer(*args: Any, **words: Any) -> Answer:
        try:
            return {"ok": True, **work(*args, **words)}
        except UserError as error:
            return {"ok": False, "problems": list(error.problems)}
        except Exception as error:
            log.exception("%s failed", work.__name__)
            return {"ok": False, "problems": [f"internal error ({type(error).__name__}); the server's log has the details"]}

    return answer


class Tools:
    """The tools of one server.

    Args:
        root: folder of scans and results.
        models: folder of checkpoints.
    """

    def __init__(self, root: Path, models: Path) -> None:
        self.root, self.models = AllowedFolder.of(root, "--root"), AllowedFolder.of(models, "--models")
        self._one_at_a_time = threading.Lock()  # memory is bounded for one prediction

    @answering
    def list_models(self) -> Answer:
        """Every checkpoint below the models' folder, with what it predicts, or why it cannot be used."""
        from fuse_examples.imaging.oai_example.stages.prediction_models import describe_model  # only now: torch

        found: list[Answer] = []
        for path in sorted(self.models.root.rglob("*.ckpt")):
            name = path.relative_to(self.models.root).as_posix()
            try:
                found.append({"model": name, "usable": True, **describe_model(self.models.existing(name))})
            except UserError as error:
                found.append({"model": name, "usable": False, "problems": list(error.problems)})
        return {"models": found}

    @answering
    def check_scan(self, scan: str) -> Answer:
        """Geometry and kind of one scan, read in full."""
        from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume

        path = self.root.existing(scan)
        header, volume = read_header(path), read_volume(path)
        return {
            "scan": scan,
            "kind": header.kind,
            "description": header.description,
            "files": header.n_files,
            "shape": list(header.source.shape),
            "spacing_mm": [round(value, 6) for value in header.source.spacing],
            "orientation": header.source.orientation,
            "affine": header.source.affine.tolist(),
            "range": [float(volume.array.min()), float(volume.array.max())],
        }

    @answering
    def segment(self, models: list[str], scans: str, output: str, overwrite: bool = False) -> Answer:
        """Masks of a scan or of a folder of scans, written into `output`."""
        self._output(output)  # a call that is refused need not wait for its turn
        self._inputs(models, scans)
        self._check_stage(models, "segmentation")
        with self._one_at_a_time:  # what was there may have been changed meanwhile
            return self._predicted(*self._inputs(models, scans), self._output(output), overwrite=overwrite)

    @answering
    def classify(self, models: list[str], scans: str) -> Answer:
        """Class probabilities of a scan or of a folder of scans; no file is left."""
        self._inputs(models, scans)
        self._check_stage(models, "classification")
        with self._one_at_a_time, tempfile.TemporaryDirectory() as folder:
            return self._predicted(*self._inputs(models, scans), Path(folder) / "classes", overlays=False)

    def _inputs(self, models: list[str], scans: str) -> tuple[list[Path], Path]:
        if repeated := [name for name, times in Counter(models).items() if times > 1]:
            raise UserError(f"{shortened(repeated[0])} is named twice. Its probabilities would count twice; name it once.")
        checkpoints = [self.models.existing(name) for name in models]
        path = self.root.existing(scans)
        if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".txt"):
            raise UserError(f"{scans}: is a table, which may name paths anywhere. Name a scan, or a folder of scans.")
        return checkpoints, path

    def _output(self, output: str) -> Path:
        folder = self.root.place(output)
        return self.root.existing(output) if folder.exists() else folder  # a link in it would lead what is written out

    def _check_stage(self, models: list[str], stage: str) -> None:
        from fuse_examples.imaging.oai_example.stages.prediction_models import describe_model

        for name in models:
            found = describe_model(self.models.existing(name))["stage"]
            if found != stage:
                tool = {"segmentation": "segment", "classification": "classify"}[found]
                raise UserError(f"{name} is a model of {found}; call `{tool}` with it.")

    def _predicted(self, checkpoints: list[Path], scans: Path, output: Path, *, overlays: bool = True, overwrite: bool = False) -> Answer:
        prediction = predict(checkpoints, scans, output, overlays=overlays, overwrite=overwrite)
        return {
            "stage": prediction.stage,
            "cases": [self._case(case) for case in prediction.cases],
            "bad_cases": [{"case": scan.name, "problems": list(scan.problems)} for scan in prediction.bad],
        }

    def _case(self, case: Any) -> Answer:
        files = {name: getattr(case, name) for name in ("mask", "dicom_seg", "overlay")}
        return {
            "case": case.name,
            "scan": case.path.relative_to(self.root.root).as_posix(),
            **{name: path.relative_to(self.root.root).as_posix() for name, path in files.items() if path is not None},
            **{name: values for name in ("volumes_ml", "probabilities", "values", "predicted") if (values := getattr(case, name))},
            **({"problems": list(case.problems)} if case.problems else {}),
        }

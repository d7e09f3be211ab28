"""What a prediction leaves behind: masks, pictures, tables and the record of how they came about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fuse_examples.imaging.oai_example.configuration.prediction_request import RECORD, PredictionRequest
from fuse_examples.imaging.oai_example.data.dicom import slice_files
from fuse_examples.imaging.oai_example.data.header_check import label_voxels
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.dicom_seg import Segmenter, write_dicom_seg
from fuse_examples.imaging.oai_example.evaluation.figures import save_png
from fuse_examples.imaging.oai_example.evaluation.masks import mask_path
from fuse_examples.imaging.oai_example.evaluation.overlay import overlay_figure
from fuse_examples.imaging.oai_example.evaluation.segmentation_writer import SegmentationWriter
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_table
from fuse_examples.imaging.oai_example.geometry.volume import to_source_order
from fuse_examples.imaging.oai_example.inference.restoration import SegmentedCase
from fuse_examples.imaging.oai_example.stages.prediction_models import ClassificationModel, Found, Model
from fuse_examples.imaging.oai_example.stages.resolution import reading_of
from fuse_examples.imaging.oai_example.training.safe_files import write_json


@dataclass(frozen=True)
class PredictedCase:
    """One scan, and what was found in it.

    Attributes:
        name: names its files.
        path: the scan.
        patient: PatientID of the table; "" where it has none.
        overlay: picture of three planes, with the mask's outline where there is one; None if none was wanted.
        mask: NIfTI on the scan's own grid; None of a classifier.
        dicom_seg: the same as DICOM-SEG; None where the scan is no DICOM series or none could be made.
        volumes_ml: structure -> predicted volume in ml, 0 of one that was not found.
        probabilities: target -> class -> probability.
        values: continuous target -> predicted number.
        predicted: target -> the class that is called, by the threshold that validation chose.
        problems: what could not be written, and why.
    """

    name: str
    path: Path
    patient: str
    overlay: Path | None
    mask: Path | None = None
    dicom_seg: Path | None = None
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class BadScan:
    """A scan that could not be predicted, and why."""

    name: str
    path: Path
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """What `predict` did.

    Attributes:
        stage: "segmentation" or "classification".
        folder: where the files are.
        cases: in the order of the table or of the paths.
        bad: the scans that could not be predicted.
    """

    stage: str
    folder: Path
    cases: tuple[PredictedCase, ...]
    bad: tuple[BadScan, ...]

    @property
    def problems(self) -> list[str]:
        """A line for each thing that went wrong."""
        return [f"{name}: {problem}" for name, _, problems in self.faulty for problem in problems]

    @property
    def faulty(self) -> list[tuple[str, Path, tuple[str, ...]]]:
        """Name, path and problems of each scan that was not predicted or not written in full."""
        bad = [(scan.name, scan.path, scan.problems) for scan in self.bad]
        return bad + [(case.name, case.path, case.problems) for case in self.cases if case.problems]


def write_case(request: PredictionRequest, model: Model, segmenter: Segmenter | None, volumes: CaseVolumes, found: Found) -> PredictedCase:
    """Write a case's mask and picture, and with `segmenter` the DICOM-SEG of a DICOM series."""
    folder, case = request.output, volumes.case
    overlay = folder / "overlays" / f"{case.name}.png" if request.overlays else None
    if overlay is not None:
        save_png(_picture(model, volumes, found), overlay)
    written = PredictedCase(
        case.name,
        case.image,
        case.patient,
        overlay,
        probabilities=found.probabilities,
        values=found.values,
        predicted=found.predicted,
    )
    if found.segmented is None:
        return written
    SegmentationWriter(folder, model.structures).add(found.segmented)
    sizes = _volumes_ml(found.segmented, model.measured)
    written = replace(written, mask=mask_path(folder, case.name), volumes_ml=sizes)
    if segmenter is None or volumes.headers.image.kind != "DICOM":
        return written
    path = folder / "dicom_seg" / f"{case.name}.dcm"
    labels = to_source_order(found.segmented.labels, found.segmented.grid, found.segmented.source)
    try:
        write_dicom_seg(path, labels, found.segmented.source, slice_files(case.image, reading_of(model.config)), segmenter)
    except DataError as error:  # the mask is there
        return replace(written, problems=error.problems)
    return replace(written, dicom_seg=path)


def _picture(model: Model, volumes: CaseVolumes, found: Found) -> Figure:
    image, name = volumes.image(), volumes.case.name
    labels = None if found.segmented is None else found.segmented.labels
    called = [f"{target}: {name} ({found.probabilities[target][name]:.2f})" for target, name in found.predicted.items()]
    called += [f"{target}: {value:.4g}" for target, value in found.values.items()]
    title = "   ".join([name, *called])
    return overlay_figure(np.asarray(image.array), None, labels, image.grid, model.structures, title)


def _volumes_ml(segmented: SegmentedCase, measured: Mapping[str, Sequence[int]]) -> dict[str, float]:
    voxel = float(abs(np.linalg.det(segmented.source.affine[:3, :3]))) / 1000
    counts = label_voxels(segmented.labels, max(label for labels in measured.values() for label in labels) + 1)
    return {name: int(counts[list(labels)].sum()) * voxel for name, labels in measured.items()}


def write_tables(prediction: Prediction, model: Model, record: Mapping[str, Any]) -> None:
    """Write predictions.csv, bad_cases.csv where scans could not be used, and prediction.json with `record` and the cases."""
    folder = prediction.folder
    if prediction.cases:
        write_table(folder / "predictions.csv", _header(model), [_cells(case, folder, model) for case in prediction.cases])
    if prediction.faulty:
        rows = [[name, path, " ".join(problems)] for name, path, problems in prediction.faulty]
        write_table(folder / "bad_cases.csv", ["case", "path", "problem"], rows)
    cases = [_described(case, folder) for case in prediction.cases]
    bad = [{"case": scan.name, "path": str(scan.path), "problems": list(scan.problems)} for scan in prediction.bad]
    write_json(folder / RECORD, {**record, "cases": cases, "bad_cases": bad})


def _header(model: Model) -> list[str]:
    header = ["case", "PatientID", "path"]
    if not isinstance(model, ClassificationModel):
        return [*header, "mask", *(f"{name}_volume_ml" for name in model.measured)]
    for target in model.targets:
        header.append(f"{target.name}_predicted")
        header += [f"{target.name}_probability_{name}" for name in getattr(target, "classes", ())]
    return header


def _cells(case: PredictedCase, folder: Path, model: Model) -> list[Any]:
    cells: list[Any] = [case.name, case.patient, str(case.path)]
    if case.mask is not None:
        return [*cells, str(case.mask.relative_to(folder)), *case.volumes_ml.values()]
    assert isinstance(model, ClassificationModel)
    for target in model.targets:
        cells.append(case.values[target.name] if target.name in case.values else case.predicted[target.name])
        cells += case.probabilities.get(target.name, {}).values()
    return cells


def _described(case: PredictedCase, folder: Path) -> dict[str, Any]:
    files = {"overlay": case.overlay, "mask": case.mask, "dicom_seg": case.dicom_seg}
    found = {"volumes_ml": case.volumes_ml, "probabilities": case.probabilities, "values": case.values, "predicted": case.predicted}
    return {
        "case": case.name,
        "path": str(case.path),
        **{name: str(path.relative_to(folder)) for name, path in files.items() if path is not None},
        **{name: dict(values) for name, values in found.items() if values},
        **({"problems": list(case.problems)} if case.problems else {}),
    }

"""The cases that a segmentation report shows, slice by slice, with the true mask as area and the predicted one as line."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.evaluation.figures import png_bytes
from fuse_examples.imaging.oai_example.evaluation.overlay import most_telling_index, overlay_figure
from fuse_examples.imaging.oai_example.evaluation.painting import painted_areas, painted_lines
from fuse_examples.imaging.oai_example.evaluation.report import Block, Picture
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, choose_examples, shown_cases
from fuse_examples.imaging.oai_example.evaluation.slices import LayerOfSlices, stack_of, stacking_plane
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_whole
from fuse_examples.imaging.oai_example.geometry.volume import Volume, from_file_order

STACK_BYTES = 8_000_000
"""Room for all slices in the page; a case has its share of it."""
TRUTH, PREDICTION = "truth (area)", "prediction (line)"


def case_pictures(
    folder: Path, cases: Sequence[CasePrediction], volumes: Mapping[str, CaseVolumes], structures: Sequence[str]
) -> dict[str, list[Block]]:
    """Return the pictures of the cases that the report shows, by name, from the masks on disk.

    Of the worst, the median and the best case three planes are shown besides; they are also the files worst.png, median.png and best.png.
    """
    shown = shown_cases(cases)
    roles = {case.name: role for role, case in choose_examples(cases).items()}
    pictures: dict[str, list[Block]] = {}
    for _, case in shown:
        image, truth = volumes[case.name].image(), volumes[case.name].mask()
        scan = _in_ras(np.asarray(image.array), image.grid.affine)
        written: Any = nibabel.load(folder / case.mask)
        predicted = _in_ras(np.asarray(written.dataobj), written.affine)
        pictures[case.name] = [
            _stack(case, scan, _in_ras(np.asarray(truth.array), image.grid.affine), predicted, STACK_BYTES // len(shown))
        ]
        if case.name in roles:
            pictures[case.name].append(_three_planes(folder, roles[case.name], case, volumes[case.name], predicted, structures))
    return pictures


def _in_ras(array: Any, affine: Any) -> Volume:
    return from_file_order(array, affine)


def _stack(case: CasePrediction, scan: Volume, truth: Volume, predicted: Volume, most_bytes: int) -> Block:
    plane = stacking_plane(scan)
    layers = [LayerOfSlices(TRUTH, painted_areas(truth.array, plane)), LayerOfSlices(PREDICTION, painted_lines(predicted.array, plane))]
    reference = truth.array if truth.array.any() else predicted.array
    return stack_of(case.name, scan, layers, most_telling_index(reference, plane.axis), most_bytes, plane)


def _three_planes(
    folder: Path, role: str, case: CasePrediction, volumes: CaseVolumes, predicted: Volume, structures: Sequence[str]
) -> Picture:
    image, truth = volumes.image(), volumes.mask()
    labels = predicted.oriented(image.grid.orientation).array
    title = f"{case.name}: mean Dice {case.mean():.3f}"
    figure = overlay_figure(np.asarray(image.array), np.asarray(truth.array), labels, image.grid, structures, title)
    png = png_bytes(figure)
    write_whole(folder / f"{role}.png", png)
    alt = f"Three planes of {case.name}: above the scan, below with the true mask as area and the predicted one as line"
    return Picture(_jpeg(png), alt, "Three planes through the structures.", 720, "scan", f"{role}.png")


def _jpeg(png: bytes) -> bytes:
    """The same picture in a quarter of the bytes."""
    buffer = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=82, subsampling=0)
    return buffer.getvalue()

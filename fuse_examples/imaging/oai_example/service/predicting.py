"""`predict` as a function: what `downstream/predict.py` does, with the result as an object."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fuse_examples.imaging.oai_example.configuration.prediction_request import PredictionRequest

if TYPE_CHECKING:
    from fuse_examples.imaging.oai_example.stages.prediction_files import Prediction

AnyPath = str | os.PathLike[str]


def predict(
    checkpoints: AnyPath | Sequence[AnyPath],
    input: AnyPath,
    output: AnyPath,
    *,
    structure_codes: AnyPath | None = None,
    dicom_seg: bool = True,
    overlays: bool = True,
    overwrite: bool = False,
) -> "Prediction":
    """Predict masks or classes of scans without labels. torch is imported by the first call, not with this module.

    Args:
        checkpoints: of segmentation.py or classification.py; the probabilities of several are averaged.
        input: a DICOM folder, a tree of series and NIfTI files, a single file, or a CSV file with `path` or `img_path`.
        output: folder for the results; made if it is not there.
        structure_codes: YAML file with the codes of structures in DICOM-SEG objects.
        dicom_seg: whether DICOM series get a DICOM-SEG beside the NIfTI mask.
        overlays: whether a picture of each case is written.
        overwrite: whether an earlier prediction in `output` may be replaced.

    Returns:
        A `Prediction`: `stage` ("segmentation" or "classification"), `folder`, `cases` and `bad`. Each of `cases` has `name`, `path`,
        `patient`, `overlay`, and of a segmenter `mask`, `dicom_seg` and `volumes_ml` (structure -> ml), of a classifier `probabilities`
        (target -> class -> probability), `values` (continuous target -> number) and `predicted` (target -> class); `problems` says what
        could not be written. Each of `bad`, the scans that could not be used, has `name`, `path` and `problems`; they raise nothing.

    Raises:
        UserError: a mistake of the call, in a checkpoint or in the table: all of one kind together, before the first scan.
    """
    several = [checkpoints] if isinstance(checkpoints, str | os.PathLike) else list(checkpoints)
    codes = None if structure_codes is None else Path(structure_codes)
    request = PredictionRequest(
        tuple(map(Path, several)), Path(input), Path(output), codes, dicom_seg=dicom_seg, overlays=overlays, overwrite=overwrite
    )
    request.check()
    from fuse_examples.imaging.oai_example.stages.prediction import predict as run  # only now: this is when torch is imported

    return run(request)

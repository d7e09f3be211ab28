"""A writer of small enhanced multi-frame files: all slices in one file, their places in functional groups."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage
from series_files import SAGITTAL, save, slice_dataset


def group(sequence: str, **values: object) -> tuple[str, list[Dataset]]:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return sequence, [item]


def enhanced(
    path: Path,
    values: np.ndarray,
    order: list[int],
    echoes: list[float] | None = None,
    slopes: list[float] | None = None,
    *,
    content: Callable[[int], dict[str, Any]] = lambda number: {},
    change: Callable[[Dataset], None] = lambda dataset: None,
) -> Path:
    """Write (frames, rows, columns); frame f lies at slice `order[f]`, 2 mm apart, spacing 0.5 mm between rows and 0.75 between columns.

    `content` gives the elements of a frame's FrameContentSequence; `change` is called on the data set before it is saved.
    """
    dataset = slice_dataset(values[0], (0, 0, 0), SAGITTAL, (0.5, 0.75))
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing, dataset.EchoTime
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.NumberOfFrames = len(values)
    dataset.PixelData = values.tobytes()
    shared = Dataset()
    setattr(shared, *group("PlaneOrientationSequence", ImageOrientationPatient=[str(v) for d in SAGITTAL for v in d]))
    setattr(shared, *group("PixelMeasuresSequence", PixelSpacing=["0.5", "0.75"]))
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number, place in enumerate(order):
        position = np.array([10, -20, 30]) + 2.0 * place * np.cross(*SAGITTAL)
        frame = Dataset()
        setattr(frame, *group("PlanePositionSequence", ImagePositionPatient=[f"{v:.3f}" for v in position]))
        setattr(frame, *group("MREchoSequence", EffectiveEchoTime=echoes[number] if echoes else 4.71))
        slope = slopes[number] if slopes else 1
        setattr(frame, *group("PixelValueTransformationSequence", RescaleSlope=str(slope), RescaleIntercept="0"))
        if content(number):
            setattr(frame, *group("FrameContentSequence", **content(number)))
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    change(dataset)
    path.parent.mkdir(exist_ok=True, parents=True)
    save(dataset, path)
    return path

"""Predicted masks as DICOM-SEG objects, which hospital software lays over the series that they were made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits, unpack_bits
from pydicom.uid import generate_uid

from fuse_examples.imaging.oai_example.configuration.structure_codes import Code, StructureCode
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.overlay import structure_colour
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.training.safe_files import written_beside

DISTRIBUTION = "oai-pretraining"
ARTIFICIAL_INTELLIGENCE = Code("123109", "DCM", "Artificial Intelligence")
NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
"""What a series must have for an object to refer to it; an invented one would tie the mask to nothing."""
ONE_FOR_ALL = NEEDED[2:]
MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
"""What the standard wants to be there, and allows to be empty (type 2)."""
ALL_THE_SAME = "Its mask is there as NIfTI; --no-dicom-seg asks for no more."
SERIES_NUMBER = 9000  # of the first such series; behind those of scanners


@dataclass(frozen=True)
class Segmenter:
    """Who made a mask, as the object says.

    Attributes:
        structures: names of labels 1, 2, ...
        codes: by structure.
        digest: SHA-256 of the checkpoint, or of several; stands for the device's serial number.
    """

    structures: tuple[str, ...]
    codes: Mapping[str, StructureCode]
    digest: str


def write_dicom_seg(path: Path, labels: NDArray[Any], grid: Grid, slices: Sequence[tuple[Path, int]], segmenter: Segmenter) -> None:
    """Write a binary DICOM-SEG whose frames are those of the source, slice by slice, with the rows and columns of the source.

    The frames of each structure follow the source's instance numbers, or the frames of its one file. Every structure has a segment. Frames
    in which a structure does not occur are left out, as the standard allows; where nothing at all was found, all are there and empty. The
    file is whole or absent.

    Args:
        path: the file to write.
        labels: (columns, rows, slices), the source's own order.
        grid: where they lie.
        slices: file and number of the frame of each slice, from `data.dicom.slice_files`.
        segmenter: what the object says of its origin.

    Raises:
        DataError: the series lacks what the object must refer to, or is a multi-frame file of which only a part is the volume.
    """
    sources, order = _sources(slices, grid.spacing[2])
    try:
        segmentation = Segmentation(
            source_images=sources,
            pixel_array=np.ascontiguousarray(labels.T[order]),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(number, segmenter) for number in range(1, len(segmenter.structures) + 1)],
            series_instance_uid=generate_uid(),
            series_number=SERIES_NUMBER + int(sources[0].get("SeriesNumber") or 0) % 900,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=DISTRIBUTION,
            manufacturer_model_name="segmentation",
            software_versions=_version(),
            device_serial_number=segmenter.digest[:16],
            content_label="SEGMENTATION",
            content_description=f"Automatic segmentation of {sources[0].get('SeriesDescription', '') or 'a series'}"[:64],
            series_description=f"Segmentation {sources[0].get('SeriesDescription', '')}".strip()[:64],
            specific_character_set="ISO_IR 192",
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{slices[0][0].parent}: no DICOM-SEG can be made of this series ({error}). {ALL_THE_SAME}") from error
    _put_in_order(segmentation, sources)
    with written_beside(path) as file:
        segmentation.save_as(file)


def _sources(slices: Sequence[tuple[Path, int]], step: float) -> tuple[list[Dataset], list[int]]:
    """The headers that the object refers to, and which slice belongs to each of their frames."""
    files = list(dict.fromkeys(path for path, _ in slices))
    headers = [_header(path, step) for path in files]
    problems = [
        f"{path}: has no {', '.join(lacking)}, to which a DICOM-SEG must refer. {ALL_THE_SAME}"
        for path, header in zip(files, headers, strict=True)
        if (lacking := [name for name in NEEDED if not header.get(name)])
    ]
    if problems:
        raise DataError(problems[0] if len(problems) == 1 else f"{problems[0]} ({len(problems)} files of the series in all)")
    if differing := [name for name in ONE_FOR_ALL if len({header.get(name) for header in headers}) > 1]:
        raise DataError(f"{files[0].parent}: its files differ in {', '.join(differing)}, of which a DICOM-SEG can have one. {ALL_THE_SAME}")
    if "NumberOfFrames" not in headers[0]:
        for header in headers:  # reading has found them parallel; their last digits may differ
            header.ImageOrientationPatient = headers[0].ImageOrientationPatient
        numbers = [header.get("InstanceNumber") for header in headers]
        told = None not in numbers and len(set(numbers)) == len(numbers)
        order = sorted(range(len(headers)), key=lambda place: int(numbers[place])) if told else list(range(len(headers)))
        return [headers[place] for place in order], order
    n_frames = int(headers[0].NumberOfFrames)
    if len(files) > 1 or sorted(number for _, number in slices) != list(range(n_frames)):
        raise DataError(
            f"{files[0]}: is a multi-frame file of {n_frames} frames, of which {len(slices)} are the volume; a DICOM-SEG is made for files "
            f"that hold nothing else. {ALL_THE_SAME}"
        )
    return headers, [int(place) for place in np.argsort([number for _, number in slices])]


def _put_in_order(segmentation: Segmentation, sources: Sequence[Dataset]) -> None:
    """Put the frames of each segment into the order of the sources; highdicom puts them into that of their positions along the normal.

    Viewers sort by the dimension index, whose last number is the position's rank; ranks are given anew to say the same.
    """
    rank = {source.SOPInstanceUID: place for place, source in enumerate(sources)}
    keys = []
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        identification = group.get("SegmentIdentificationSequence")  # shared where there is one segment
        segment = int(identification[0].ReferencedSegmentNumber) if identification else 1
        keys.append((segment, rank[reference.ReferencedSOPInstanceUID], int(reference.get("ReferencedFrameNumber", 1))))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    shape = (len(keys), segmentation.Rows * segmentation.Columns)
    frames = np.asarray(unpack_bits(segmentation.PixelData))[: shape[0] * shape[1]].reshape(shape)
    segmentation.PixelData = pack_bits(frames[order].ravel())
    groups = [segmentation.PerFrameFunctionalGroupsSequence[place] for place in order]
    ranks = {place: number for number, place in enumerate(sorted({key[1:] for key in keys}), start=1)}
    for group, place in zip(groups, order, strict=True):
        index = group.FrameContentSequence[0].DimensionIndexValues
        values = [index] if isinstance(index, int) else list(index)
        group.FrameContentSequence[0].DimensionIndexValues = [*values[:-1], ranks[keys[place][1:]]]
    segmentation.PerFrameFunctionalGroupsSequence = groups


def _header(path: Path, step: float) -> Dataset:
    """A source's header with what a DICOM-SEG repeats of it; slices without a thickness are as thick as they are apart, `step` mm."""
    header = dcmread(path, stop_before_pixels=True, force=True)
    if "PerFrameFunctionalGroupsSequence" not in header and int(header.get("NumberOfFrames") or 1) == 1:
        header.pop("NumberOfFrames", None)  # some scanners count the one image of a file
    groups = header.get("SharedFunctionalGroupsSequence") or []
    for place in [item for group in groups for item in group.get("PixelMeasuresSequence") or []] or [header]:
        if not place.get("SliceThickness"):
            place.SliceThickness = f"{step:.10g}"
    for name in MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, None)
    return header


def _segment(number: int, segmenter: Segmenter) -> SegmentDescription:
    name = segmenter.structures[number - 1]
    code = segmenter.codes[name]
    return SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=_concept(code.category),
        segmented_property_type=_concept(code.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=f"{DISTRIBUTION} segmentation",
            family=_concept(ARTIFICIAL_INTELLIGENCE),
            version=_version(),
            parameters={"checkpoint_sha256": segmenter.digest},
        ),
        display_color=CIELabColor.from_string(structure_colour(number)),
    )


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from a checkout
        return "unreleased"

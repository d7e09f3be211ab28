"""DICOM image files that are not scans: masks made of other images."""

from pydicom.uid import SegmentationStorage

from fuse_examples.imaging.oai_example.data.dicom_files import ImageFile

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation Storage, which pydicom 3.0 has no name for
SEGMENTATIONS = (SegmentationStorage, LABEL_MAP)
"""Classes of DICOM-SEG objects."""


def is_segmentation(file: ImageFile) -> bool:
    """Whether the file is a DICOM-SEG object."""
    return file.values.get("SOPClassUID", "") in SEGMENTATIONS

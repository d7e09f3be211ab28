"""What a user may decide about reading: which series of a folder, and whether uneven spacing is tolerated.

The choice belongs to the preprocessing: it is part of the store's keys and travels in checkpoints, so that a test reads as training did.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SeriesChoice:
    """Which volume to read where a DICOM folder holds several; each condition that is set must hold.

    Attributes:
        description: pattern of the series description, without regard to capitals; `*` is any text, `?` any character.
        echo: number of the echo; where the files do not number them apart, 1 is the shortest echo time.
        largest: take the volume with the most slices of those that are left.
    """

    description: str | None = None
    echo: int | None = None
    largest: bool = False

    def __bool__(self) -> bool:
        return self != SeriesChoice()

    def __str__(self) -> str:
        given = [f"{key}: {value}" for key, value in (("description", self.description), ("echo", self.echo)) if value is not None]
        return ", ".join([*given, *(["largest: true"] if self.largest else [])])


@dataclass(frozen=True)
class Reading:
    """How scans are read.

    Attributes:
        series: which volume of a DICOM folder.
        tolerate_uneven_spacing: read unevenly spaced slices as if they were even, with a warning.
    """

    series: SeriesChoice = SeriesChoice()
    tolerate_uneven_spacing: bool = False

    @property
    def of_masks(self) -> "Reading":
        """The same for a mask: descriptions and echoes are the image's, and a folder of masks must hold one volume."""
        return Reading(tolerate_uneven_spacing=self.tolerate_uneven_spacing)


AS_IT_IS = Reading()
"""Nothing chosen and nothing tolerated."""

"""Nested blocks that more than one stage has."""

from typing import Literal

from fuse_examples.imaging.oai_example.configuration.kinds import (
    Axes,
    Flag,
    Folder,
    NotNegative,
    Percentiles,
    Positive,
    ScaleRange,
    Share,
    Text,
    Window,
)
from fuse_examples.imaging.oai_example.configuration.settings import Settings, inner


class IntensitySettings(Settings):
    """How the intensities of a volume are normalised, once per volume."""

    method: Literal["percentile", "window", "zscore"] | None = inner(
        None,
        "percentile: clip at two percentiles, then scale to 0..1. window: clip at two intensities (CT), then scale to 0..1. "
        "zscore: mean 0, standard deviation 1. null: as the weights were made, else percentile.",
        null_means="percentile",
    )
    percentiles: Percentiles | None = inner(
        None, "The two percentiles of method percentile. null: as the weights were made, else [0.5, 99.5].", null_means=[0.5, 99.5]
    )
    window: Window | None = inner(None, "The two intensities of method window, in the scan's own units (HU for CT).")


class SeriesSettings(Settings):
    """Which volume of a DICOM folder is read. A folder with one volume is read whatever this says."""

    description: Text | None = inner(
        None, "Pattern of its series description: * is any text, ? any character, as in 'SAG_3D_DESS*'. null: any description."
    )
    echo: Positive | None = inner(
        None, "Number of its echo; where the files do not number them apart, 1 is the shortest echo time. null: any echo."
    )
    largest: Flag = inner(False, "Whether to take the volume with the most slices of those that are left.")


class StoreSettings(Settings):
    """Where preprocessed volumes are kept."""

    path: Folder | None = inner(None, "Folder of the preprocessed volumes, shared by all runs. null: <results_dir>/.store.")


class AugmentationSettings(Settings):
    """Random changes that every stage has."""

    rotation_degrees: NotNegative = inner(15.0, "Largest rotation about each axis, in degrees.")
    flip_axes: Axes = inner(
        (),
        "Axes along which volumes are mirrored, half of the time: any of left_right, posterior_anterior, inferior_superior. A left-right "
        "flip makes a left knee of a right one: leave it out where the side matters.",
    )
    gamma_range: ScaleRange = inner(
        (0.8, 1.25), "Smallest and largest exponent of a gamma curve over the range of intensities; [1, 1] for none."
    )
    noise_std: NotNegative = inner(0.05, "Largest standard deviation of Gaussian noise, in units of normalised intensity.")
    probability: Share = inner(0.5, "Chance of each change other than flips.")


class VolumeAugmentation(AugmentationSettings):
    """Random changes of a training volume."""

    scale_range: ScaleRange = inner((0.85, 1.15), "Smallest and largest magnification; [1, 1] for none.")

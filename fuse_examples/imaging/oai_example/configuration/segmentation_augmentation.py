"""The random changes of a training volume and its mask in segmentation."""

from typing import Annotated

from annotated_types import Gt, Le
from pydantic import Strict
from pydantic.types import AllowInfNan

from fuse_examples.imaging.oai_example.configuration.blocks import VolumeAugmentation
from fuse_examples.imaging.oai_example.configuration.kinds import NamePairs, NotNegative, PositiveNumber, ScaleRange, Share
from fuse_examples.imaging.oai_example.configuration.settings import inner

_Zoom = Annotated[float, Strict(), AllowInfNan(False), Gt(0), Le(1)]


class SegmentationAugmentation(VolumeAugmentation):
    """Random changes of a training volume and its mask."""

    elastic_mm: NotNegative = inner(
        2.0, "Largest elastic displacement along each axis, in mm; 0: none. At most a sixth of elastic_spacing_mm."
    )
    elastic_spacing_mm: PositiveNumber = inner(30.0, "Distance of the points that elastic displacements are drawn at, in mm.")
    blur_std: NotNegative = inner(1.0, "Largest standard deviation of a Gaussian blur, in voxels of the network's input; 0: none.")
    brightness_range: ScaleRange = inner((0.75, 1.25), "Smallest and largest factor of all intensities; [1, 1] for none.")
    contrast_range: ScaleRange = inner(
        (0.75, 1.25), "Smallest and largest factor of the intensities' distance from their mean; [1, 1] for none."
    )
    lowest_resolution: _Zoom = inner(
        0.5, "Smallest size, relative to the input's, that a view is reduced to and enlarged from again; 1: none."
    )
    gamma_inverted: Share = inner(0.25, "Share of gamma curves that act on the negative.")
    flip_label_pairs: NamePairs | None = inner(
        None,
        "Structures that change names in a left-right flip, such as [[left_kidney, right_kidney]]; needed for such flips where "
        "structure_names name a side.",
    )

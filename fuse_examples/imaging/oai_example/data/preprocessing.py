"""What happens to every scan before a network sees it. Travels in checkpoints, so that prediction repeats training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.data.intensity import IntensityStatistics, Method, Normalisation, normalisation
from fuse_examples.imaging.oai_example.geometry.maps import Matrix, view_map
from fuse_examples.imaging.oai_example.geometry.volume import Grid, Shape


@dataclass(frozen=True)
class Preprocessing:
    """Resolved settings: axis order, intensity, and either one size for whole volumes or a spacing and a patch size.

    Attributes:
        orientation: axis codes of the arrays, such as "RAS".
        method, percentiles, window: intensity normalisation (`data.intensity`).
        resize_to: voxels of the whole volume as the network sees it.
        patch_size, spacing: voxels of a patch and their size in mm; both None with `resize_to`.
    """

    orientation: str
    method: Method
    percentiles: tuple[float, float] | None
    window: tuple[float, float] | None
    resize_to: Shape | None
    patch_size: Shape | None = None
    spacing: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if (self.resize_to is None) == (self.patch_size is None) or (self.patch_size is None) != (self.spacing is None):
            raise ValueError("either resize_to, or patch_size and spacing")

    @property
    def network_size(self) -> Shape:
        """Voxels of one network input."""
        size = self.resize_to or self.patch_size
        assert size is not None  # by __post_init__
        return size

    def normalisation(self, statistics: IntensityStatistics) -> Normalisation:
        """The intensity map of a volume with these statistics."""
        return normalisation(statistics, self.method, self.window)

    def whole_view(self, grid: Grid) -> tuple[Matrix, Shape]:
        """Map and shape of the whole volume as the network sees it: resized, or at the target spacing.

        Where a volume is smaller than a patch, it lies in the middle of one, as in training: what is around it is background.
        """
        extent = np.array(grid.shape) * grid.spacing
        if self.spacing is None:
            whole = np.array(self.network_size)
        else:
            # NIfTI keeps spacings in single precision and DICOM as decimals: a half goes up, in spite of the last digits.
            whole = np.maximum(np.floor(extent / np.array(self.spacing) + 0.5 + 1e-4).astype(int), 1)
        matrix = view_map(np.array(grid.shape) / 2, extent, whole.tolist(), grid.spacing)
        missing = np.maximum(np.array(self.network_size) - whole, 0)
        matrix[:3, 3] -= matrix[:3, :3] @ (missing // 2)  # whole voxels, so that nothing is interpolated that need not be
        depth, height, width = (whole + missing).tolist()
        return matrix, (depth, height, width)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `as_dict`."""
        plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**plain)

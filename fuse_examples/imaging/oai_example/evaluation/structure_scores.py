"""Every score of one case, structure by structure, on the input's own grid in millimetres. docs/metrics.md has the definitions.

Dice and volumes of all structures come from one joint histogram. Surfaces and thickness are measured inside the box that holds a
structure in both masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from fuse_examples.imaging.oai_example.evaluation.surface_distances import box_around, surface_distances
from fuse_examples.imaging.oai_example.evaluation.thickness import mean_thickness
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.objectives.overlap import dice_per_region, joint_histogram

METRICS = (
    "dice",
    "surface_dice",
    "hd95_mm",
    "assd_mm",
    "volume_error_ml",
    "absolute_volume_error_ml",
    "thickness_error_mm",
    "absolute_thickness_error_mm",
)
Pair = tuple[float, float]  # (of the true mask, of the predicted mask)
_NAN = float("nan")


@dataclass(frozen=True)
class ScoreSettings:
    """What is a choice in scoring.

    Attributes:
        tolerance_mm: of surface Dice.
        thickness_of: names of the sheets whose thickness is measured.
        regions: labels of each structure, where structures are unions of labels; empty: structure k is label k.
        label_names: of labels 1, 2, ..., where structures are unions.
    """

    tolerance_mm: float = 1.0
    thickness_of: tuple[str, ...] = ()
    regions: tuple[tuple[int, ...], ...] = ()
    label_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class StructureScores:
    """Scores and measurements of one case.

    Attributes:
        scores: metric -> structure -> value; NaN where it is not defined.
        volumes_ml: structure -> (true, predicted).
        thickness_mm: structure -> (true, predicted), for those of `thickness_of`.
    """

    scores: dict[str, dict[str, float]]
    volumes_ml: dict[str, Pair]
    thickness_mm: dict[str, Pair]


def score_structures(
    truth: NDArray[Any], predicted: NDArray[Any], grid: Grid, structures: Sequence[str], settings: ScoreSettings
) -> StructureScores:
    """Compare two label maps (D, H, W) that lie on `grid`; label k is the k-th of `structures`, unless `settings.regions` says otherwise.

    Raises:
        ValueError: a shape or label that does not fit.
    """
    regions = settings.regions or tuple((label,) for label in range(1, len(structures) + 1))
    n_labels = len(settings.label_names) if settings.regions else len(structures)
    counts = joint_histogram(truth, predicted, n_labels + 1)
    dice = dice_per_region(counts, regions)
    millilitres = abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000
    volumes = {
        name: (float(counts[list(region)].sum() * millilitres), float(counts[:, list(region)].sum() * millilitres))
        for region, name in zip(regions, structures, strict=True)
    }
    boxes = [find_objects(_labels(one), max_label=n_labels) for one in (truth, predicted)]
    scores: dict[str, dict[str, float]] = {metric: {} for metric in METRICS}
    thickness = {}
    for region, name, score in zip(regions, structures, dice, strict=True):
        box = box_around([found[label - 1] for found in boxes for label in region])
        masks = (_is_in(region, truth[box]), _is_in(region, predicted[box])) if box is not None else None
        values = {"dice": float(score), **_surface_scores(masks, grid, settings.tolerance_mm)}
        values |= _errors("volume_error_ml", volumes[name] if masks else (_NAN, _NAN))
        if name in settings.thickness_of:
            thickness[name] = _thickness(masks, grid)
            values |= _errors("thickness_error_mm", thickness[name])
        for metric, value in values.items():
            scores[metric][name] = value
    return StructureScores({metric: by_name for metric, by_name in scores.items() if by_name}, volumes, thickness)


def _is_in(region: Sequence[int], labels: NDArray[Any]) -> NDArray[np.bool_]:
    first, *further = region
    found: NDArray[np.bool_] = labels == first
    for label in further:
        found |= labels == label
    return found


def _labels(mask: NDArray[Any]) -> NDArray[Any]:
    return mask.astype(np.uint8) if mask.dtype == np.bool_ else mask  # find_objects takes integers


def _surface_scores(masks: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None, grid: Grid, tolerance_mm: float) -> dict[str, float]:
    """Surface Dice, HD95 and ASSD; with a structure that is absent in one mask the worst there is: 0 and the grid's diagonal."""
    if masks is None:
        return {"surface_dice": _NAN, "hd95_mm": _NAN, "assd_mm": _NAN}
    if not all(mask.any() for mask in masks):
        corners = grid.corners()
        diagonal = float(np.linalg.norm(corners[:, None] - corners[None], axis=-1).max())
        return {"surface_dice": 0.0, "hd95_mm": diagonal, "assd_mm": diagonal}
    distances = surface_distances(*masks, grid.affine[:3, :3])
    return {"surface_dice": distances.dice(tolerance_mm), "hd95_mm": distances.hausdorff(), "assd_mm": distances.average()}


def _thickness(masks: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None, grid: Grid) -> Pair:
    if masks is None:
        return (_NAN, _NAN)
    return mean_thickness(masks[0], grid.affine[:3, :3]), mean_thickness(masks[1], grid.affine[:3, :3])


def _errors(name: str, pair: Pair) -> dict[str, float]:
    """Predicted minus true, with its sign and without."""
    error = pair[1] - pair[0]
    return {name: error, f"absolute_{name}": abs(error)}

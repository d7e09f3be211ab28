"""Scored cases of a segmentation test, back from its `predictions.csv`."""

from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.evaluation.prediction_files import number, read_metrics, read_predictions
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import MEAN, CasePrediction
from fuse_examples.imaging.oai_example.evaluation.structure_scores import METRICS, Pair


def read_segmented(folder: Path, masks_below: str = "") -> tuple[list[CasePrediction], list[str]]:
    """Read what `write_segmentation_results` wrote into a test folder.

    Args:
        folder: the test folder.
        masks_below: put before the paths of the masks, which are relative to `folder`.

    Returns:
        The cases and the names of the structures.

    Raises:
        DataError: files that are not there, or not whole.
    """
    metrics = read_metrics(folder)
    structures: list[str] = metrics["structures"]
    measured = {name: [structure for structure in metrics[name] if structure != MEAN] for name in METRICS if name in metrics}
    groups = list(metrics.get("subgroups", {}))
    cases = []
    for row in read_predictions(folder, ["case", "PatientID", "fold", "row", "mask", *(f"dice_{name}" for name in structures)]):
        cases.append(
            CasePrediction(
                row["case"],
                row["PatientID"],
                row["fold"],
                int(row["row"]),
                {name: {structure: number(row[f"{name}_{structure}"]) for structure in those} for name, those in measured.items()},
                _pairs(row, "volume_ml", structures),
                _pairs(row, "thickness_mm", structures),
                f"{masks_below}{row['mask']}",
                {name: row[name] or None for name in groups},
            )
        )
    return cases, structures


def _pairs(row: dict[str, str], what: str, structures: Sequence[str]) -> dict[str, Pair]:
    """Structure -> (true, predicted), for those that the table has."""
    return {
        structure: (number(row[f"true_{what}_{structure}"]), number(row[f"predicted_{what}_{structure}"]))
        for structure in structures
        if f"true_{what}_{structure}" in row
    }

"""A network's scores beside those of its baselines, with paired differences on the same resamples of patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.bootstrap import paired_difference
from fuse_examples.imaging.oai_example.evaluation.classified_cases import AnyTarget, ClassifiedCase, Target
from fuse_examples.imaging.oai_example.evaluation.report import Block, Paragraph, Section, Table
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import interval_text, three_digits
from fuse_examples.imaging.oai_example.evaluation.target_statistics import PRIMARY, scored

RULE = "network minus baseline, both on the same resamples of patients; baselines are fitted to the training cases alone"


@dataclass(frozen=True)
class Rival:
    """What a baseline predicts for the tested cases.

    Attributes:
        name: what it is called in the report.
        predictions: probabilities (n, K) or numbers (n, 1).
        threshold: of the positive class.
        called: predicted classes, (n,), where they are decided already, as in a table read back; else the threshold decides.
    """

    name: str
    predictions: NDArray[np.float64]
    threshold: float | None = None
    called: tuple[str, ...] | None = None


def baseline_metrics(cases: Sequence[ClassifiedCase], target: AnyTarget, rivals: Sequence[Rival], settings: Bootstrap) -> dict[str, Any]:
    """Return baseline -> its metrics with intervals, and the network's differences from them, on the network's `cases`."""
    own = scored(cases, target)
    found: dict[str, Any] = {}
    for one in rivals:
        rival = scored(*_as_cases(cases, target, one))
        differences = {
            name: paired_difference(rival.statistics[name], statistic, own.patients, classes=own.classes(name), settings=settings).as_dict()
            for name, statistic in own.statistics.items()
        }
        found[one.name] = {"metrics": rival.intervals(settings), "difference": differences}
    return found


def baseline_section(target: AnyTarget, entry: Mapping[str, Any], readable: Mapping[str, str]) -> list[Section]:
    """Return the section that sets a target's main metric beside its baselines; none without baselines."""
    if not entry.get("baselines"):
        return []
    name = PRIMARY[target.kind]
    rows = [["network", _with_interval(entry[name]), "", ""]]
    for baseline, found in entry["baselines"].items():
        difference = found["difference"][name]
        p = "–" if difference["p_value"] is None else f"{difference['p_value']:.4f}"
        rows.append([baseline, _with_interval(found["metrics"][name]), _with_interval(difference), p])
    header = ["predictor", f"{readable[name]} (interval)", "network minus it (interval)", "p"]
    note = f"Differences: {RULE}. metrics.json has the other metrics."
    blocks: list[Block] = [Table(header, rows), Paragraph(note, "note")]
    return [Section(f"{target.name} beside simple predictors", blocks)]


def _with_interval(entry: Mapping[str, Any]) -> str:
    return f"{three_digits(entry['value'])} ({interval_text(entry)})"


def _as_cases(cases: Sequence[ClassifiedCase], target: AnyTarget, rival: Rival) -> tuple[list[ClassifiedCase], AnyTarget]:
    pairs = zip(cases, rival.predictions.tolist(), strict=True)
    if not isinstance(target, Target):
        return [replace(case, values={target.name: values[0]}) for case, values in pairs], target
    calls = [{}] * len(cases) if rival.called is None else [{target.name: name} for name in rival.called]  # never the network's
    theirs = [replace(case, probabilities={target.name: values}, called=call) for (case, values), call in zip(pairs, calls, strict=True)]
    return theirs, replace(target, threshold=rival.threshold)

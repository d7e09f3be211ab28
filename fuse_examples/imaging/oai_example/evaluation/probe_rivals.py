"""Probes of pre-trained features beside those of what needs no pre-training, on the same patients.

An untrained network is a strong rival: what it pools are random summaries of the image, and classes that differ in the image at large
differ in them too. Columns of the table, such as a volume or a mean intensity, are what classes may differ in by accident.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.covariates import learn_covariates
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Difference, Estimate, Statistic, estimate, paired_difference
from fuse_examples.imaging.oai_example.evaluation.probes import Embedded, ProbeScores, score_probes
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap, FloatArray

Pair = tuple[Embedded, Embedded]
"""The known (training) and the asked (test) cases with their features, each in the order of the table."""


@dataclass(frozen=True)
class Beside:
    """One rival of the features.

    Attributes:
        auc: its own; where it has several members the mean over them, with the interval of one drawn at random (`drawn_member`).
        members: AUC of each member.
        difference: the features' AUC less its own, on the same resamples of patients.
    """

    auc: Estimate
    members: tuple[float | None, ...]
    difference: Difference

    @property
    def is_beaten(self) -> bool:
        """Whether the interval of the difference lies above 0; without an interval it does not."""
        return self.difference.estimate.low is not None and self.difference.estimate.low > 0


def column_features(known: Sequence[Case], asked: Sequence[Case], columns: Sequence[str], csv_path: Path) -> Pair:
    """Columns of numbers as features, standardised by the known cases; of each also whether it is missing.

    Raises:
        DataError: a cell that holds no number, with its row; a column that is empty in all known cases.
    """
    learnt = learn_covariates(known, dict.fromkeys(columns, "numeric"), csv_path)
    first, second = (np.array([learnt.encode(case) for case in cases], dtype=np.float64) for cases in (known, asked))
    return Embedded(known, first), Embedded(asked, second)


def beside_rivals(
    own: Pair, rivals: Mapping[str, Sequence[Pair]], index: ClassIndex, probe: str = "knn_auc", settings: Bootstrap | None = None
) -> tuple[Estimate, dict[str, Beside]]:
    """The AUC of a probe on features, and each rival beside it.

    Args:
        own: the features.
        rivals: name -> members of the same kind, such as networks of several seeds.
        index: the classes of the target.
        probe: a key of `ProbeScores.aucs`.
        settings: resamples, level, seed.
    """
    ours = score_probes(*own, index)
    found = {}
    for name, members in rivals.items():
        scores = [score_probes(*member, index) for member in members]
        theirs = replace(ours, aucs={probe: drawn_member([one.aucs[probe] for one in scores])})
        alone = tuple(_auc(one, probe, settings).value for one in scores)
        difference = paired_difference(
            drawn_member([one.aucs[probe] for one in scores]), ours.aucs[probe], ours.patients, classes=ours.classes, settings=settings
        )
        found[name] = Beside(_auc(theirs, probe, settings), alone, difference)
    return _auc(ours, probe, settings), found


def drawn_member(statistics: Sequence[Statistic], seed: int = 0) -> Statistic:
    """The mean of several statistics for the cases as they are, and in each resample that of one drawn at random.

    An interval then covers what it is by chance which random network was taken, which differ among themselves as much as patients make
    any of them differ. With the mean in each resample a lucky random network would seem to be better than random networks.
    """
    generator = np.random.default_rng(seed)

    def statistic(weights: FloatArray) -> FloatArray:
        values = np.stack([one(weights) for one in statistics])
        drawn = values[generator.integers(len(values), size=len(weights)), np.arange(len(weights))]
        return np.where((weights == 1).all(axis=1), values.mean(axis=0), drawn)

    return statistic


def _auc(scores: ProbeScores, probe: str, settings: Bootstrap | None) -> Estimate:
    return estimate(scores.aucs[probe], scores.patients, classes=scores.classes, settings=settings)

"""Probes: how well simple classifiers read a labelled column from the features of a network that never saw it.

The features of training cases and their labels are all that a probe learns from; it is scored on other patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import MISSING, ClassIndex
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate, Statistic, estimate
from fuse_examples.imaging.oai_example.evaluation.classification_metrics import auc, macro
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap, FloatArray

Features = NDArray[np.floating]
Labels = NDArray[np.integer]
NEIGHBOURS, TEMPERATURE = 20, 0.07  # of DINO's k-NN (Caron et al. 2021)
PENALTY = 0.01  # scikit-learn's C: features outnumber the cases of most data sets
RULES = {
    "knn_auc": f"features less the mean of the training cases', brought to length 1; the {NEIGHBOURS} training cases of the highest cosine "
    f"vote with the weight exp(cosine / {TEMPERATURE}) (Wu et al. 2018, Caron et al. 2021)",
    "linear_auc": f"logistic regression on standardised features, C = {PENALTY}, fitted on the training cases",
    "auc": "of the positive class, or the mean over classes of each one against the rest; intervals by bootstrap over patients",
}


@dataclass(frozen=True)
class Embedded:
    """Cases and their features (n, F), in one order."""

    cases: Sequence[Case]
    features: Features


def knn_probabilities(known: Features, labels: Labels, asked: Features, n_classes: int) -> NDArray[np.float64]:
    """Weighted votes of the nearest known cases, (n, K), each row summing to 1; see `RULES`.

    Args:
        known: (m, F), features of labelled cases.
        labels: (m,), their classes.
        asked: (n, F).
        n_classes: K.
    """
    mean = known.mean(axis=0)
    similarity = _directions(asked - mean) @ _directions(known - mean).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]
    weights = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1) / TEMPERATURE)
    votes = np.zeros((len(asked), n_classes))
    np.add.at(votes, (np.arange(len(asked))[:, None], labels[nearest]), weights)
    shares: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
    return shares


def linear_probabilities(known: Features, labels: Labels, asked: Features, n_classes: int) -> NDArray[np.float64]:
    """Probabilities (n, K) of a logistic regression; see `RULES` and `knn_probabilities`."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=2000)).fit(known, labels)
    probabilities = np.zeros((len(asked), n_classes))
    probabilities[:, model.classes_] = model.predict_proba(asked)
    return probabilities


@dataclass(frozen=True)
class ProbeScores:
    """What probes found of one target: the AUC of each as a statistic of the asked cases that have a label, their patients and classes."""

    aucs: Mapping[str, Statistic]
    patients: Sequence[str]
    classes: Sequence[str]


def score_probes(known: Embedded, asked: Embedded, index: ClassIndex) -> ProbeScores:
    """The AUC of both probes of one target, "knn_auc" and "linear_auc"; undefined where known cases of two classes or asked ones lack.

    Cases without a label are left out.
    """
    labels, features, _ = _labelled(known, index)
    truth, questions, patients = _labelled(asked, index)
    aucs: dict[str, Statistic] = {}
    for name, probabilities_of in (("knn_auc", knn_probabilities), ("linear_auc", linear_probabilities)):
        if len(np.unique(labels)) < 2 or not len(questions):
            aucs[name] = _undefined
            continue
        scores = probabilities_of(features, labels, questions, len(index.classes))
        aucs[name] = macro([auc(truth == k, scores[:, k]) for k in ([1] if len(index.classes) == 2 else range(len(index.classes)))])
    return ProbeScores(aucs, patients, [index.classes[label] for label in truth])


def probe(known: Embedded, asked: Embedded, index: ClassIndex, settings: Bootstrap | None = None) -> Mapping[str, Estimate]:
    """The AUCs of `score_probes` with their intervals. Cases whose features are not finite are left out: a damaged volume has such ones."""
    found, why = score_probes(with_finite_features(known), with_finite_features(asked), index), "not every class has cases"
    return {
        name: estimate(statistic, found.patients, classes=found.classes, why_undefined=why, settings=settings)
        for name, statistic in found.aucs.items()
    }


def with_finite_features(embedded: Embedded) -> Embedded:
    """The cases all of whose features are finite numbers."""
    are_finite = np.asarray(np.isfinite(embedded.features).all(axis=1))
    return Embedded([case for case, kept in zip(embedded.cases, are_finite, strict=True) if kept], embedded.features[are_finite])


def _undefined(weights: FloatArray) -> FloatArray:
    return np.full(len(weights), np.nan)


def _labelled(embedded: Embedded, index: ClassIndex) -> tuple[Labels, Features, list[str]]:
    labels = np.array([index.label(case) for case in embedded.cases], dtype=np.int64)
    has_one = labels != MISSING
    patients = [case.patient for case, kept in zip(embedded.cases, has_one, strict=True) if kept]
    return labels[has_one], embedded.features[has_one], patients


def _directions(features: Features) -> Features:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: Features = features / np.maximum(lengths, np.finfo(features.dtype).tiny)
    return unit

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fuse_examples.imaging.oai_example.objectives.ranking import binary_auc, macro_auc


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("decimals", [1, 8])  # one decimal makes many ties
def test_auc_equals_scikit_learns(n_classes: int, decimals: int) -> None:
    rng = np.random.default_rng(n_classes)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 60)])
    scores = rng.random((len(labels), n_classes)) + 0.6 * np.eye(n_classes)[labels]
    probabilities = (scores / scores.sum(1, keepdims=True)).round(decimals)
    reference = [roc_auc_score(labels == k, probabilities[:, k]) for k in range(n_classes)]
    assert np.isclose(macro_auc(labels, probabilities), np.mean(reference[1:2] if n_classes == 2 else reference))


def test_a_class_without_cases_is_left_out_and_nothing_at_all_is_undefined() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.7, 0.2], [0.3, 0.4, 0.3]])
    both = [binary_auc(labels == k, probabilities[:, k]) for k in (0, 1)]
    assert np.isclose(macro_auc(labels, probabilities), np.mean(both))
    assert np.isnan(macro_auc(np.zeros(3, int), np.full((3, 2), 0.5)))

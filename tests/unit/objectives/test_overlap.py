import time

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from fuse_examples.imaging.oai_example.objectives.overlap import dice_per_region, joint_histogram


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 4, 5), (2, 3, 4, 5), (1, 1, 1)])
@pytest.mark.parametrize("dtypes", [(np.uint8, np.uint8), (np.int16, np.uint8), (np.int64, np.uint16), (np.uint8, np.int32)])
@pytest.mark.parametrize("num_classes", [2, 7, 16, 17, 40])
def test_histogram_equals_scikit_learn(shape: tuple[int, ...], dtypes: tuple[type, type], num_classes: int) -> None:
    generator = np.random.default_rng(num_classes)
    truth = generator.integers(num_classes, size=shape).astype(dtypes[0])
    predicted = generator.integers(num_classes, size=shape).astype(dtypes[1])
    expected = confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(num_classes))
    assert np.array_equal(joint_histogram(truth, predicted, num_classes), expected)


def test_memory_order_and_views_do_not_matter() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(4, size=(2, 6, 7, 8)).astype(np.uint8)
    expected = confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(4))
    assert np.array_equal(joint_histogram(np.asfortranarray(truth), predicted, 4), expected)
    assert np.array_equal(joint_histogram(truth, np.asfortranarray(predicted), 4), expected)
    assert np.array_equal(joint_histogram(truth[::-1, :, ::-1], predicted[::-1, :, ::-1], 4), expected)
    assert np.array_equal(joint_histogram(truth.transpose(2, 0, 1), predicted.transpose(2, 0, 1), 4), expected)


def test_dice_equals_f1_and_follows_the_rule_for_absent_structures() -> None:
    generator = np.random.default_rng(1)
    truth, predicted = generator.integers(3, size=(2, 9, 9, 9))
    dice = dice_per_region(joint_histogram(truth, predicted, 3), [(0,), (1,), (2,)])
    assert np.allclose(dice, f1_score(truth.ravel(), predicted.ravel(), average=None), atol=1e-15)
    truth, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 3])
    dice = dice_per_region(joint_histogram(truth, predicted, 5), [(0,), (1,), (2,), (3,), (4,)])
    assert np.allclose(dice, [2 / 3, 4 / 5, 0, 0, np.nan], equal_nan=True)  # 2 missed, 3 invented, 4 in neither


def test_empty_arrays_count_nothing() -> None:
    empty = np.zeros((0, 3, 3), dtype=np.uint8)
    assert joint_histogram(empty, empty, 3).sum() == 0
    assert np.isnan(dice_per_region(joint_histogram(empty, empty, 3), [(0,), (1, 2)])).all()


def test_labels_that_do_not_fit_are_refused() -> None:
    good = np.array([[0, 1], [2, 0]], dtype=np.uint8)
    with pytest.raises(ValueError, match=r"prediction has the label 3; with 3 classes labels are 0 to 2"):
        joint_histogram(good, np.array([[0, 1], [3, 0]]), 3)
    with pytest.raises(ValueError, match=r"truth has the label -1"):
        joint_histogram(np.array([[0, 1], [-1, 2]]), good, 3)
    with pytest.raises(ValueError, match=r"truth has shape \(2, 2\), prediction \(4,\); both must lie on one grid"):
        joint_histogram(good, good.ravel(), 3)
    with pytest.raises(ValueError, match=r"truth is of type float32; labels are integers"):
        joint_histogram(good.astype(np.float32), good, 3)


def test_a_knee_takes_a_fraction_of_a_second() -> None:
    truth = np.random.default_rng(0).integers(7, size=(160, 384, 384), dtype=np.uint8)
    start = time.process_time()
    counts = joint_histogram(truth, truth, 7)
    # 0.04 s where it was measured; a one-hot way takes 2 s and more. The margin is for machines that do other work.
    assert time.process_time() - start < 1
    assert counts.sum() == truth.size

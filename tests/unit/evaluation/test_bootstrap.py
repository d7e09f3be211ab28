import numpy as np
import pytest

from fuse_examples.imaging.oai_example.evaluation import bootstrap, resampling
from fuse_examples.imaging.oai_example.evaluation.bootstrap import estimate, estimate_mean, mean_of, paired_difference
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap


def cohort(n_patients: int, seed: int = 0, spread: float = 0.1) -> tuple[np.ndarray, list[str]]:
    """Scores of patients with one to three cases that are alike within a patient."""
    generator = np.random.default_rng(seed)
    scores, patients = [], []
    for index in range(n_patients):
        centre = generator.normal(0.8, spread)
        for _ in range(int(generator.integers(1, 4))):
            scores.append(centre + generator.normal(0, 0.01))
            patients.append(f"p{index}")
    return np.array(scores), patients


def slow_resamples(patients: list[str], strata: dict[str, str] | None, settings: Bootstrap) -> list[list[int]]:
    """The cases of each resample as lists of indices, from the same generator, with loops."""
    generator = np.random.default_rng(settings.seed)
    groups: dict[str, list[str]] = {}
    for patient in sorted(set(patients)):
        groups.setdefault(strata[patient] if strata else "", []).append(patient)
    out: list[list[int]] = []
    for start in range(0, settings.n_resamples, resampling.RESAMPLES_AT_ONCE):
        size = min(resampling.RESAMPLES_AT_ONCE, settings.n_resamples - start)
        block: list[list[int]] = [[] for _ in range(size)]
        for _, members in sorted(groups.items()):
            for resample, draws in zip(block, generator.integers(len(members), size=(size, len(members))), strict=True):
                for draw in draws:
                    resample += [case for case, patient in enumerate(patients) if patient == members[draw]]
        out += block
    return out


def test_interval_equals_a_slow_loop_over_the_same_patients() -> None:
    scores, patients = cohort(15)
    scores[[0, 7]] = np.nan
    settings = Bootstrap(n_resamples=130, seed=3)
    means = [np.nanmean(scores[cases]) for cases in slow_resamples(patients, None, settings)]
    result = estimate_mean(scores, patients, settings)
    assert result.value == pytest.approx(np.nanmean(scores))
    assert (result.low, result.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=1e-12)
    assert result.n_cases == len(scores) - 2
    assert result.n_undefined == 0


def test_the_level_and_the_seed_matter_and_nothing_else_does() -> None:
    scores, patients = cohort(20)
    first = estimate_mean(scores, patients, Bootstrap(300))
    state = np.random.get_state()[1].copy()
    assert estimate_mean(scores, patients, Bootstrap(300)) == first
    assert np.array_equal(np.random.get_state()[1], state)
    order = np.random.default_rng(0).permutation(len(scores))
    shuffled = estimate_mean(scores[order], [patients[index] for index in order], Bootstrap(300))
    assert (shuffled.low, shuffled.high) == pytest.approx((first.low, first.high), abs=1e-12)
    assert estimate_mean(scores, patients, Bootstrap(300, seed=1)).low != first.low
    wide, narrow = estimate_mean(scores, patients, Bootstrap(300, level=0.99)), estimate_mean(scores, patients, Bootstrap(300, level=0.5))
    assert wide.low < first.low < narrow.low < narrow.high < first.high < wide.high


def test_every_resample_draws_whole_patients() -> None:
    _, patients = cohort(12)
    weights = np.concatenate(list(resampling.resample_weights(patients, None, Bootstrap(250))))
    assert weights.shape == (250, len(patients))
    for name in set(patients):
        columns = weights[:, [index for index, patient in enumerate(patients) if patient == name]]
        assert (columns == columns[:, :1]).all()
    first_case = [patients.index(name) for name in sorted(set(patients))]
    assert (weights[:, first_case].sum(axis=1) == 12).all()
    assert weights.mean() == pytest.approx(1, abs=0.05)


def test_strata_keep_the_number_of_rare_patients() -> None:
    patients = [f"p{index}" for index in range(40)] + ["p0", "p1"]
    classes = ["rare"] * 12 + ["common"] * 28 + ["common", "common"]  # p0 and p1 have one knee of each kind
    strata = resampling.strata_of(patients, classes)
    assert strata is not None
    assert {name for name, stratum in strata.items() if stratum == "rare"} == {f"p{index}" for index in range(12)}
    weights = np.concatenate(list(resampling.resample_weights(patients, strata, Bootstrap(120))))
    assert (weights[:, :12].sum(axis=1) == 12).all()
    assert (weights[:, 12:40].sum(axis=1) == 28).all()
    settings = Bootstrap(n_resamples=120)
    slow = slow_resamples(patients, strata, settings)
    assert all(np.array_equal(np.bincount(cases, minlength=42), row) for cases, row in zip(slow, weights, strict=True))
    assert resampling.strata_of([f"p{index}" for index in range(60)], ["a", "b"] * 30) is None
    assert resampling.strata_of(patients, ["one"] * 42) is None
    assert resampling.strata_of(patients, None) is None


def test_ten_patients_are_needed_and_it_says_so() -> None:
    scores, patients = cohort(9)
    result = estimate_mean(scores, patients, Bootstrap(100))
    assert (result.low, result.high) == (None, None)
    assert result.value == pytest.approx(scores.mean())
    assert result.note == "no interval: 9 patients with a score; 10 are needed"
    assert estimate_mean(*cohort(10), Bootstrap(100)).low is not None
    # Patients without a score do not count.
    scores, patients = cohort(10)
    scores[np.array(patients) == "p3"] = np.nan
    assert estimate_mean(scores, patients, Bootstrap(100)).note == "no interval: 9 patients with a score; 10 are needed"


def test_ten_patients_are_needed_in_each_class() -> None:
    scores, patients = np.arange(25.0), [f"p{index}" for index in range(24)] + ["p0"]
    classes = ["a"] * 9 + ["b"] * 15 + ["a"]  # p0 twice: nine patients, ten cases
    result = estimate(mean_of(scores), patients, classes=classes, settings=Bootstrap(100))
    assert result.note == "no interval: 9 patients in class 'a'; 10 are needed"
    assert result.low is None
    classes[9] = "a"
    assert estimate(mean_of(scores), patients, classes=classes, settings=Bootstrap(100)).low is not None


def test_no_score_at_all_is_undefined_with_a_reason() -> None:
    result = estimate_mean([np.nan] * 12, [f"p{index}" for index in range(12)])
    assert result.as_dict() == {
        "value": None, "low": None, "high": None, "n_patients": 0, "n_cases": 0, "note": "undefined: no case has a score"
    }  # fmt: skip
    assert estimate_mean([], []).value is None


def test_undefined_resamples_are_counted_and_many_leave_no_interval() -> None:
    patients = [f"p{index}" for index in range(20)]
    settings = Bootstrap(400)

    def undefined_without(cases: list[int]) -> bootstrap.Statistic:
        return lambda weights: np.where(weights[:, cases].sum(axis=1) > 0, weights.sum(axis=1), np.nan)

    few = estimate(undefined_without([0, 1, 2, 3, 4]), patients, settings=settings)
    expected = sum(not set(cases) & {0, 1, 2, 3, 4} for cases in slow_resamples(patients, None, settings))
    assert 0 < few.n_undefined < 20
    assert few.n_undefined == expected
    assert few.low is not None
    many = estimate(undefined_without([0]), patients, settings=settings)
    assert many.low is None
    assert many.note == f"no interval: undefined in {many.n_undefined} of 400 resamples"
    assert many.as_dict()["n_undefined"] == many.n_undefined > 100


def test_coverage_is_near_95_per_cent_and_rows_instead_of_patients_fall_short() -> None:
    by_patient = by_row = 0
    for seed in range(200):
        scores, patients = cohort(40, seed)
        result = estimate_mean(scores, patients, Bootstrap(200, seed=seed))
        by_patient += result.low <= 0.8 <= result.high
        rows = estimate_mean(scores, [str(index) for index in range(len(scores))], Bootstrap(200, seed=seed))
        by_row += rows.low <= 0.8 <= rows.high
    assert 0.89 <= by_patient / 200 <= 0.99
    assert by_row / 200 < 0.87


def test_paired_difference_equals_a_slow_loop() -> None:
    first, patients = cohort(18)
    second = first + np.random.default_rng(5).normal(0.004, 0.02, len(first))
    settings = Bootstrap(150, seed=9)
    result = paired_difference(mean_of(first), mean_of(second), patients, settings=settings)
    observed = second.mean() - first.mean()
    differences = np.array([second[cases].mean() - first[cases].mean() for cases in slow_resamples(patients, None, settings)])
    assert result.estimate.value == pytest.approx(observed)
    assert (result.estimate.low, result.estimate.high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-12)
    assert result.p_value == (1 + np.sum(np.abs(differences - observed) >= abs(observed))) / 151
    assert 0.02 < result.p_value < 1


def test_p_of_a_sure_difference_and_of_none() -> None:
    first, patients = cohort(30)
    sure = paired_difference(mean_of(first), mean_of(first + 0.1 + 1e-3 * np.sin(np.arange(len(first)))), patients, settings=Bootstrap(400))
    assert sure.p_value == 1 / 401
    assert sure.estimate.low > 0.09
    same = paired_difference(mean_of(first), mean_of(first), patients, settings=Bootstrap(400))
    assert same.p_value == 1
    assert (same.estimate.low, same.estimate.high) == (0, 0)
    few = paired_difference(mean_of(first[:5]), mean_of(first[:5]), patients[:5])
    assert few.p_value is None
    assert "10 are needed" in few.estimate.note
    assert few.as_dict()["p_value"] is None


def test_p_is_uniform_under_the_null() -> None:
    values = []
    for seed in range(150):
        generator = np.random.default_rng(seed)
        difference = generator.normal(0, 1, 40)
        base = generator.normal(0, 1, 40)
        patients = [str(index) for index in range(40)]
        p = paired_difference(mean_of(base), mean_of(base + difference), patients, settings=Bootstrap(200, seed=seed)).p_value
        values.append(p)
    assert 0.01 <= np.mean(np.array(values) <= 0.05) <= 0.11
    assert 0.4 <= np.mean(np.array(values) <= 0.5) <= 0.6


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="0 resamples"):
        Bootstrap(0)
    with pytest.raises(ValueError, match="level 95"):
        Bootstrap(level=95)

"""Baselines in a table and back, and those of several tests together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.baseline_results import Rival
from fuse_examples.imaging.oai_example.evaluation.baseline_table import TABLE, pooled_rivals, read_baseline_table
from fuse_examples.imaging.oai_example.evaluation.classification_results import write_classification_results
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, ContinuousTarget, Target, read_classified
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap

TARGETS = [Target("ill", ("no", "yes"), "yes"), Target("KL", ("0", "1", "2"), ordinal=True), ContinuousTarget("age")]
FEW = Bootstrap(n_resamples=20)
N = 24


def written_results(folder: Path, seed: int, threshold: float) -> tuple[list[ClassifiedCase], dict[str, list[Rival]]]:
    """Results of a test in `folder`, whose baselines call by `threshold`."""
    rng = np.random.default_rng(seed)
    cases = [
        ClassifiedCase(
            name=f"c{seed}_{index}",
            patient=f"p{seed}_{index}",
            fold=str(seed),
            row=index + 2,
            truth={"ill": ("no", "yes")[index % 2], "KL": str(index % 3), "age": f"{50 + index}"},
            probabilities={"ill": rng.dirichlet([1, 1]).tolist(), "KL": rng.dirichlet([1, 1, 1]).tolist()},
            values={"age": float(rng.normal(60, 5))},
            called={"ill": "no"},
        )
        for index in range(N)
    ]
    rivals = {
        "ill": [Rival("majority class", np.tile([0.4, 0.6], (N, 1))), Rival("covariates", rng.dirichlet([1, 1], N), threshold)],
        "KL": [Rival("covariates", rng.dirichlet([1, 1, 1], N))],
        "age": [Rival("covariates", rng.normal(60, 5, (N, 1)))],
    }
    folder.mkdir()
    write_classification_results(folder, cases, TARGETS, FEW, rivals)
    return cases, rivals


def test_a_table_read_back_says_what_was_predicted_and_called(tmp_path: Path) -> None:
    _, rivals = written_results(tmp_path / "one", 1, 0.3)
    back = read_baseline_table(tmp_path / "one", TARGETS)
    assert {target: [one.name for one in found] for target, found in back.items()} == {
        "ill": ["majority class", "covariates"], "KL": ["covariates"], "age": ["covariates"],
    }  # fmt: skip
    for target, found in back.items():
        for one, before in zip(found, rivals[target], strict=True):
            assert np.array_equal(one.predictions, before.predictions)
    called = back["ill"][1].called
    assert called == tuple("yes" if p >= 0.3 else "no" for p in rivals["ill"][1].predictions[:, 1])
    assert back["ill"][0].called == ("yes",) * N  # the network called all of them "no"
    assert back["age"][0].called is None


def test_pooled_baselines_are_called_as_each_test_called_them(tmp_path: Path) -> None:
    thresholds = (0.2, 0.8)
    tests = [written_results(tmp_path / str(seed), seed, threshold) for seed, threshold in enumerate(thresholds)]
    pooled = pooled_rivals([read_baseline_table(tmp_path / str(seed), TARGETS) for seed in range(2)])
    cases = [case for seed in range(2) for case in read_classified(tmp_path / str(seed))[0]]
    (tmp_path / "pooled").mkdir()
    metrics = write_classification_results(tmp_path / "pooled", cases, TARGETS, FEW, pooled)
    right, errors = [], []
    for (own, rivals), threshold in zip(tests, thresholds, strict=True):
        calls = np.where(rivals["ill"][1].predictions[:, 1] >= threshold, "yes", "no")
        right += [call == case.truth["ill"] for call, case in zip(calls, own, strict=True)]
        errors += [abs(value - float(str(case.truth["age"]))) for value, case in zip(rivals["age"][0].predictions[:, 0], own, strict=True)]
    assert metrics["ill"]["baselines"]["covariates"]["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert metrics["age"]["baselines"]["covariates"]["metrics"]["mae"]["value"] == pytest.approx(np.mean(errors))
    again = read_baseline_table(tmp_path / "pooled", TARGETS)
    assert again["ill"][1].called == pooled["ill"][1].called


def test_tests_without_or_with_other_baselines(tmp_path: Path) -> None:
    written_results(tmp_path / "one", 1, 0.3)
    found = read_baseline_table(tmp_path / "one", TARGETS)
    table = (tmp_path / "one" / TABLE).read_text()
    (tmp_path / "one" / TABLE).unlink()
    assert read_baseline_table(tmp_path / "one", TARGETS) == {}
    assert pooled_rivals([found, {}]) == {}
    other = {**found, "KL": [replace(found["KL"][0], name="mean intensity")]}
    with pytest.raises(DataError, match=r"^KL: the folds have different baselines \(covariates and others\)"):
        pooled_rivals([found, other])
    (tmp_path / "one" / TABLE).write_text(table.replace("age_covariates_predicted", "age_predicted"))
    with pytest.raises(DataError, match=rf"{TABLE}: lacks the columns age_covariates_predicted"):
        read_baseline_table(tmp_path / "one", TARGETS)

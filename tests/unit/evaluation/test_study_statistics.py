"""The statistics of a study: against a bootstrap written down once more, and where the truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import study_samples
from sklearn.metrics import roc_auc_score

from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.study_cells import StudyResults
from fuse_examples.imaging.oai_example.evaluation.study_report import speed_table
from fuse_examples.imaging.oai_example.evaluation.study_sentences import needed_text, sentences
from fuse_examples.imaging.oai_example.evaluation.study_statistics import SpeedEntry, analyse, crossed_values, labels_for, median

B = Bootstrap(n_resamples=2000)


def crossed_by_hand(results: StudyResults, one: str, other: str | None, budget: str, n_resamples: int = 800) -> np.ndarray:
    """Draw seeds, draw patients, put their cases together, score them with another library, take the mean."""
    rng = np.random.default_rng(99)
    patients = [case.patient for case in results.cases]
    members = {name: [place for place, patient in enumerate(patients) if patient == name] for name in patients}
    names, seeds = sorted(members), results.seeds(one, budget=budget)

    def score(name: str, seed: int, places: list[int]) -> float:
        cell = results.cell(name, budget, seed)
        assert cell is not None
        if results.target is None:
            return float(np.mean([cell.scores[place] for place in places]))
        return float(roc_auc_score([results.cases[place].truth == "ill" for place in places], [cell.scores[place][0] for place in places]))

    values = []
    for _ in range(n_resamples):
        places = [place for name in rng.choice(names, len(names)) for place in members[name]]
        drawn = rng.choice(seeds, len(seeds))
        values.append(np.mean([score(one, seed, places) - (score(other, seed, places) if other else 0.0) for seed in drawn]))
    return np.array(values)


def bounds(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def test_intervals_are_those_of_an_independent_bootstrap() -> None:
    results = study_samples.segmentation_study({"n1": 0.02, "all": 0.0})
    answer = analyse(results, B)
    for entry in answer.scores:
        expected = np.percentile(crossed_by_hand(results, entry.initialisation, None, entry.budget), [2.5, 97.5])
        assert bounds(entry.estimate) == pytest.approx(tuple(expected), abs=2.5e-3)
    for difference in answer.differences:
        drawn = crossed_by_hand(results, "dino", "scratch", difference.budget)
        assert bounds(difference.difference.estimate) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=8e-4)
        value = difference.difference.estimate.value
        assert value is not None
        expected_p = np.mean(np.abs(drawn - value) >= abs(value))
        assert difference.difference.p_value == pytest.approx(expected_p, abs=0.06)


def test_an_auc_too_with_two_cases_a_patient() -> None:
    results = study_samples.classification_study(gain=0.4)
    answer = analyse(results, B)
    drawn = crossed_by_hand(results, "dino", "scratch", "all", 300)
    found = answer.differences[1].difference.estimate
    assert found.value == pytest.approx(float(np.mean(drawn)), abs=0.02)
    # Ours keeps the number of the rarer class where it is rare, which narrows it a little.
    assert bounds(found) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.025)
    assert found.stratified
    assert found.n_patients == 60


def test_both_initialisations_are_scored_on_the_same_draws() -> None:
    results = study_samples.segmentation_study({"n4": 0.03})
    one, two = (results.statistic(cell) for cell in results.cells[:2])
    apart = crossed_values([two], results.patients, None, B) - crossed_values([one], results.patients, None, B)
    together = crossed_values([lambda weights: two(weights) - one(weights)], results.patients, None, B)
    assert apart == pytest.approx(together)
    low, high = bounds(analyse(results, B).differences[0].difference.estimate)
    assert high - low < 0.4 * np.ptp(bounds(analyse(results, B).scores[0].estimate))  # what both have in common does not count


def test_seeds_count_as_a_sample_of_their_own() -> None:
    results = study_samples.segmentation_study({"n4": 0.0}, n_seeds=8)
    statistics = [results.statistic(cell) for cell in results.cells if cell.initialisation == "scratch"]
    crossed = crossed_values(statistics, results.patients, None, B)
    of_patients = crossed_values([lambda weights: np.mean([one(weights) for one in statistics], axis=0)], results.patients, None, B)
    seeds = [float(one(np.ones((1, 38)))[0]) for one in statistics]
    assert np.var(crossed) == pytest.approx(np.var(of_patients) + np.var(seeds) / 8, rel=0.12)


def test_p_values_are_corrected_for_all_differences_and_only_shared_seeds_count() -> None:
    results = study_samples.segmentation_study({"n1": 0.05, "n4": 0.002, "all": 0.0}, names=("scratch", "dino", "frozen"))
    cells = tuple(cell for cell in results.cells if cell.key != ("scratch", "n4", 1))
    answer = analyse(StudyResults(**{**vars_of(results), "cells": cells}), B)
    assert {(entry.initialisation, entry.budget): entry.n_seeds for entry in answer.differences}[("dino", "n4")] == 2
    raw = sorted(entry.difference.p_value for entry in answer.differences if entry.difference.p_value is not None)
    smallest = min(answer.differences, key=lambda entry: entry.difference.p_value or 1)
    assert len(raw) == 6
    assert smallest.holm == pytest.approx(min(1, 6 * raw[0]))


def vars_of(results: StudyResults) -> dict[str, object]:
    return {name: getattr(results, name) for name in StudyResults.__dataclass_fields__}


def test_steps_to_the_best_score_of_the_reference() -> None:
    results = study_samples.segmentation_study({"n4": 0.0}, speed=3.0)
    (entry,) = analyse(results, B).speeds
    assert entry.reference_steps == 360
    for seed, (reference, steps) in entry.pairs.items():
        scratch, dino = results.cell("scratch", "n4", seed), results.cell("dino", "n4", seed)
        assert scratch is not None
        assert dino is not None
        best = max(value for _, value in scratch.curve)
        assert reference == next(step for step, value in scratch.curve if value == best)
        assert steps == min(step for step, value in dino.curve if value >= best)
        assert scratch.steps_to(best) == scratch.best[0]  # what is equal is reached
    assert 0.3 <= median(entry.ratios) <= 0.45
    none = SpeedEntry("dino", "n4", 4, {0: (100, None), 1: (100, None), 2: (100, 50)})
    assert (none.n_reached, none.share) == (1, math.inf)
    # Medians of the steps, 280 and 160, would say "in about half of them"; of three seeds one is faster.
    mixed = SpeedEntry("dino", "n4", 4, {0: (280, 120), 1: (280, None), 2: (80, 160)})
    assert (mixed.reference_steps, mixed.share) == (280, 2.0)
    row = speed_table(replace(analyse(results, B), speeds=(mixed,))).rows[0]
    assert row == ["dino", "4", "280", "0.43, 2.00, not reached", "2.00"]


def test_labels_for_a_score_are_interpolated_on_a_logarithmic_scale() -> None:
    sizes = np.array([1.0, 4.0, 16.0])
    curve = np.array([[0.5, 0.7, 0.9]])
    for score, expected in ((0.4, 1), (0.5, 1), (0.6, 2), (0.7, 4), (0.8, 8), (0.9, 16), (0.91, math.inf)):
        assert labels_for(np.array([score]), sizes, curve)[0] == pytest.approx(expected)
    dented = np.array([[0.5, 0.9, 0.7]])  # what was reached once is reached
    assert labels_for(np.array([0.8]), sizes, dented)[0] == pytest.approx(4**0.75)


def test_labels_saved_and_their_words() -> None:
    answer = analyse(study_samples.segmentation_study({"n1": 0.1, "n4": 0.04, "n12": 0.0, "all": 0.02}), B)
    first, *_, last = answer.saved
    assert first.low <= first.needed <= first.high
    assert 2 < first.needed < 4
    assert (last.needed, needed_text(last)) == (math.inf, "more than 111")


def test_a_gain_a_loss_and_what_cannot_be_told_are_said() -> None:
    said = "\n".join(sentences(analyse(study_samples.segmentation_study({"n1": 0.1, "n4": 0.05, "n40": -0.04, "all": 0.0}), B)))
    assert "With 1 and 4 labelled patients dino has a higher mean Dice than scratch: by 0.09" in said
    assert "With 40 labelled patients dino has a lower mean Dice than scratch: by 0.0" in said
    assert "With 111 labelled patients the data do not tell dino and scratch apart; differences from -0.00" in said
    assert "dino reaches scratch's best validation score of the same budget and seed in 5" in said
    assert "For the scores of dino scratch needs more labelled patients: about 3 in place of 1" in said
    assert "This is said of 38 test patients, 3 seeds and 360 optimiser steps a run" in said


def test_a_null_result_is_said_as_such() -> None:
    said = sentences(analyse(study_samples.segmentation_study({"n1": 0.0, "all": 0.0}, speed=0.5), B))
    assert said[0].startswith("The data do not show that dino changes mean Dice at any of the numbers of labels; differences from -0.0")
    assert (
        said[1]
        == "dino reaches scratch's best validation score of the same budget and seed in 0 of 6 runs, which does not show that it is faster."
    )
    gain = analyse(study_samples.segmentation_study({"n1": 0.1}), B)
    uncorrected = replace(gain, differences=tuple(replace(entry, holm=0.06) for entry in gain.differences))
    assert sentences(gain)[0].startswith("With 1 labelled patient dino has a higher mean Dice")
    assert sentences(uncorrected)[0].startswith("The data do not show that dino changes mean Dice")  # the interval alone does not decide


def test_labels_saved_are_told_where_a_score_is_higher_alone() -> None:
    gain = analyse(study_samples.segmentation_study({"n1": 0.1, "n4": 0.05, "all": 0.0}), B)
    uncorrected = replace(gain, differences=tuple(replace(entry, holm=0.06) for entry in gain.differences))
    assert "needs more labelled patients: about" in "\n".join(sentences(gain))
    assert "needs more labelled patients" not in "\n".join(sentences(uncorrected))
    assert uncorrected.saved[0].low > uncorrected.saved[0].n_train  # its interval is not corrected and would say so


def test_too_few_data_are_said_as_such() -> None:
    few = sentences(analyse(study_samples.segmentation_study({"n1": 0.1}, n_seeds=2), B))
    assert few[0] == (
        "These data are too few to say whether dino helps: 2 seeds and 38 test patients; at least 3 seeds and 10 patients (in each class) "
        "are needed."
    )
    answer = analyse(study_samples.segmentation_study({"n1": 0.1}, n_patients=9), B)
    assert answer.differences[0].difference.p_value is None
    assert answer.differences[0].difference.estimate.note == "no interval: 9 test patients; 10 are needed"
    assert "3 seeds and 9 test patients" in sentences(answer)[0]
    alone = study_samples.segmentation_study({"n1": 0.0}, names=("scratch",))
    assert sentences(analyse(alone, B)) == ["There is one initialisation only, so there is nothing to compare."]

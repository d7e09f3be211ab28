"""`auto` in pre-training: each rule at its corners, what a person reads, and that everything set by hand stays."""

from pathlib import Path
from typing import Any

import pytest

from fuse_examples.imaging.oai_example.configuration.dino_auto import RULES, RunSize, without_auto
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.settings import settings_of

GOOD = "experiment: e\ncsv_path: cases.csv\ntrain_folds: [0]\n"


def config(tmp_path: Path, *words: str) -> DINOConfig:
    file = tmp_path / "cfg.yaml"
    file.write_text(GOOD)
    return load_config(DINOConfig, file, words)


def value_of(settled: DINOConfig, key: str) -> Any:
    found: Any = settled
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(
    ("n_volumes", "batch", "n_epochs", "key", "value"),
    [
        (200, 8, 40, "head.n_prototypes", 1024),
        (20_000, 8, 40, "head.n_prototypes", 1024),
        (20_001, 8, 40, "head.n_prototypes", 2048),
        (500_000, 8, 40, "head.n_prototypes", 32_768),
        (2_000_000, 8, 40, "head.n_prototypes", 65_536),
        (200, 8, 40, "teacher_temperature", 0.02),
        (1_000_000, 8, 40, "teacher_temperature", 0.07),
        (141_421, 8, 40, "teacher_temperature", 0.045),  # half-way from 20 000 to 1 000 000 on a logarithmic scale
        (1_000_000, 8, 40, "teacher_temperature_start", 0.04),
        (200, 8, 100, "momentum_start", 0.99),
        (1_000_000, 8, 100, "momentum_start", 0.996),
        (200, 8, 40, "momentum_start", 0.98),  # 25 steps an epoch, 1000 in all: 1 - 20 / 1000
        (16, 8, 1, "momentum_start", 0.9),
        (200, 64, 40, "learning_rate", 5e-4),
        (200, 256, 40, "learning_rate", 1e-3),
        (200, 16, 40, "learning_rate", 2.5e-4),
        (200, 8, 200, "warmup_epochs", 10),
        (200, 8, 30, "warmup_epochs", 3),
        (200, 8, 1, "warmup_epochs", 1),
        (200, 8, 40, "teacher_temperature_warmup_epochs", 12),
        (200, 8, 500, "teacher_temperature_warmup_epochs", 30),
    ],
)
def test_each_rule_gives_the_number_that_it_states(
    tmp_path: Path, n_volumes: int, batch: int, n_epochs: int, key: str, value: float
) -> None:
    settled, _ = without_auto(config(tmp_path), RunSize(n_volumes, batch, n_epochs))
    assert value_of(settled, key) == pytest.approx(value)


def test_no_auto_is_left_and_each_has_a_line_with_its_number_and_its_rule(tmp_path: Path) -> None:
    settled, lines = without_auto(config(tmp_path), RunSize(191, 8, 40))
    assert all(value_of(settled, key) != "auto" for key in RULES)
    assert len(lines) == len(RULES)
    assert lines[0] == "auto: head.n_prototypes: 1024, for 191 volumes"
    assert "auto: learning_rate: 0.000177, 0.0005 x sqrt(8 volumes per step / 64)" in lines
    assert "auto: momentum_start: 0.9792, for a teacher that remembers a 20th of the run's 960 steps" in lines
    assert "auto: warmup_epochs: 4, 10% of 40 epochs, at most 10" in lines


def test_what_is_set_by_hand_stays(tmp_path: Path) -> None:
    words = ["head.n_prototypes=64", "learning_rate=1e-4", "warmup_epochs=0", "momentum_start=0.5"]
    words += ["teacher_temperature=0.02", "teacher_temperature_warmup_epochs=7"]
    settled, lines = without_auto(config(tmp_path, *words), RunSize(200, 8, 40))
    assert (settled.head.n_prototypes, settled.learning_rate, settled.warmup_epochs, settled.momentum_start) == (64, 1e-4, 0, 0.5)
    assert settled.teacher_temperature_warmup_epochs == 7
    assert settled.teacher_temperature_start == 0.02
    assert lines == ("auto: teacher_temperature_start: 0.02, teacher_temperature, but at most 0.04",)
    assert settled.origin("learning_rate").kind == "command line"


def test_the_momentum_does_not_rise_above_its_end(tmp_path: Path) -> None:
    settled, _ = without_auto(config(tmp_path, "momentum_end=0.95"), RunSize(200, 8, 1000))
    assert settled.momentum_start == 0.95


def test_the_rules_are_for_the_keys_that_default_to_auto() -> None:
    assert {key for key, one in settings_of(DINOConfig).items() if one.default == "auto" and key != "precision"} >= set(RULES)


def test_a_value_that_is_neither_a_number_nor_auto_is_told_both(tmp_path: Path) -> None:
    file = tmp_path / "cfg.yaml"
    file.write_text(GOOD + "learning_rate: automatic\n")
    with pytest.raises(Exception, match="learning_rate: must be a number above 0 or 'auto', found 'automatic'; did you mean 'auto'"):
        load_config(DINOConfig, file)

"""What a person reads of settings that no rule refuses: when, and what to set instead."""

import math
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.dino_auto import RunSize, without_auto
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.dino_remarks import blunt_teacher, different_views, remarks, slow_teacher
from fuse_examples.imaging.oai_example.configuration.loading import load_config


def config(tmp_path: Path, *words: str) -> DINOConfig:
    file = tmp_path / "cfg.yaml"
    file.write_text("experiment: e\ncsv_path: cases.csv\ntrain_folds: [0]\n")
    return load_config(DINOConfig, file, words)


@pytest.mark.parametrize(
    ("start", "end", "n_epochs"), [(0.9999, 1.0, 4), (0.996, 1.0, 4), (0.99, 1.0, 20), (0.996, 1.0, 20), (0.95, 0.999, 1)]
)
def test_what_is_left_of_the_first_teacher_is_told(tmp_path: Path, start: float, end: float, n_epochs: int) -> None:
    """Against the shares of all steps, multiplied one by one."""
    size = RunSize(200, 8, n_epochs)
    left = 1.0
    for step in range(size.n_steps):
        left *= end + (start - end) * (1 + math.cos(math.pi * step / (size.n_steps - 1))) / 2
    settled, _ = without_auto(config(tmp_path, f"momentum_start={start}", f"momentum_end={end}"), size)
    told = slow_teacher(settled, size)
    assert len(told) == (left > 0.5)
    if told:
        percent = int(told[0].split("still ")[1].split("%")[0])
        assert percent == pytest.approx(100 * left, abs=1)


def test_a_slow_teacher_is_told_with_what_to_set(tmp_path: Path) -> None:
    settled, _ = without_auto(config(tmp_path, "momentum_start=0.9995"), RunSize(191, 8, 40))
    assert slow_teacher(settled, RunSize(191, 8, 40)) == (
        "warning: with momentum_start 0.9995 the teacher is still 79% of what it starts from after all 960 steps, so the student learns "
        "what random numbers say. Set momentum_start: auto, which is 0.9792 here, or train for longer.",
    )
    loaded = settled.model_copy(update={"dino_weights": tmp_path / "backbone.safetensors"})
    assert "the student learns what those weights said." in slow_teacher(loaded, RunSize(191, 8, 40))[0]
    shortest, _ = without_auto(config(tmp_path), RunSize(8, 8, 10))
    (told,) = slow_teacher(shortest, RunSize(8, 8, 10))
    assert told.endswith("after all 10 steps, so the student learns what random numbers say. Train for longer.")


@pytest.mark.parametrize("size", [RunSize(16, 8, 10), RunSize(111, 8, 28), RunSize(200, 8, 100), RunSize(1_000_000, 512, 100)])
def test_auto_is_never_too_slow(tmp_path: Path, size: RunSize) -> None:
    settled, _ = without_auto(config(tmp_path), size)
    assert [line for line in remarks(settled, size) if line.startswith("warning")] == []


@pytest.mark.parametrize(("student", "teacher", "is_told"), [(0.1, 0.1, True), (0.1, 0.2, True), (0.1, 0.07, False), (0.05, 0.07, True)])
def test_a_teacher_that_is_no_sharper_than_the_student_is_told(tmp_path: Path, student: float, teacher: float, is_told: bool) -> None:
    size = RunSize(200, 8, 40)
    settled, _ = without_auto(config(tmp_path, f"student_temperature={student}", f"teacher_temperature={teacher}"), size)
    told = (
        f"warning: teacher_temperature {teacher} is not below student_temperature {student}; a teacher that is no sharper than the student "
        "usually ends in uniform outputs. Set teacher_temperature: auto, which is 0.02 here.",
    )
    assert blunt_teacher(settled, size) == (told if is_told else ())


@pytest.mark.parametrize(("student", "teacher"), [(0.01, "auto"), (0.02, "auto"), (0.015, "0.03")])
def test_where_auto_would_be_too_blunt_too_the_student_is_to_be_softer(tmp_path: Path, student: float, teacher: str) -> None:
    size = RunSize(200, 8, 40)
    settled, _ = without_auto(config(tmp_path, f"student_temperature={student}", f"teacher_temperature={teacher}"), size)
    (told,) = blunt_teacher(settled, size)
    assert told.endswith("usually ends in uniform outputs. Raise student_temperature above it; 0.1 is usual.")


@pytest.mark.parametrize(
    ("n_volumes", "words", "is_told"),
    [
        (499, [], True),
        (500, [], False),
        (100, ["crops.n_local=0"], True),
        (100, ["crops.n_local=0", "crops.global_scale_in_plane=[0.8,1]"], True),
        (100, ["crops.n_local=0", "crops.global_scale_in_plane=[0.8,1]", "crops.global_scale_through_plane=[0.8,1]"], False),
        (100, ["crops.n_local=1", "crops.global_scale_in_plane=[0.8,1]", "crops.global_scale_through_plane=[0.8,1]"], True),
    ],
)
def test_views_that_share_little_are_told_where_volumes_are_few(tmp_path: Path, n_volumes: int, words: list[str], is_told: bool) -> None:
    assert bool(different_views(config(tmp_path, *words), RunSize(n_volumes, 8, 40))) == is_told


def test_the_note_on_different_views_names_a_file_that_has_others(tmp_path: Path) -> None:
    (told,) = different_views(config(tmp_path), RunSize(111, 8, 40))
    assert told == (
        "note: 111 training volumes are few for views that share as little as these: large ones from 48% on, 2 small ones. In runs on some "
        "hundred scans the outputs levelled out; configs/dino_few_volumes.yaml has views that kept them apart."
    )
    few = load_config(DINOConfig, Path(__file__).parents[3] / "configs/dino_few_volumes.yaml")
    assert different_views(few, RunSize(111, 8, 40)) == ()

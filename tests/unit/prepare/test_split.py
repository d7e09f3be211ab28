"""Folds: no patient in two of them, classes in proportion, the same for the same seed whatever the order of rows."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.splits import split_cases
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare import split
from fuse_examples.imaging.oai_example.prepare.folds.assignment import assign_folds, equal_shares, linked_groups

ROWS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.sampled_from("abc")), min_size=1, max_size=80)


def table(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["PatientID,path,site,label", *rows]) + "\n")
    return path


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, folds=st.integers(2, 5), seed=st.integers(0, 3), order=st.randoms(use_true_random=False))
def test_groups_never_leak_and_the_order_of_rows_is_nothing(rows, folds, seed, order) -> None:  # type: ignore[no-untyped-def]
    patients, families = [f"P{p}" for p, _, _ in rows], [f"F{f}" if f else "" for _, f, _ in rows]
    groups = linked_groups(patients, families)
    if len(set(groups)) < folds:
        with pytest.raises(DataError):
            assign_folds(groups, equal_shares(folds))
        return
    classes = [c for _, _, c in rows]
    found = assign_folds(groups, equal_shares(folds), classes=classes, seed=seed)
    for values in (patients, families):
        for value in set(values) - {""}:
            assert len({fold for fold, other in zip(found, values, strict=True) if other == value}) == 1
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    again = linked_groups([patients[i] for i in shuffled], [families[i] for i in shuffled])
    other = assign_folds(again, equal_shares(folds), classes=[classes[i] for i in shuffled], seed=seed)
    assert [found[i] for i in shuffled] == other


def test_rows_are_linked_through_others() -> None:
    groups = linked_groups(["b", "a", "c", "d"], ["x", "x", "", ""], ["", "1", "1", ""])
    assert groups == ["a", "a", "a", "d"]


@settings(max_examples=40, deadline=None)
@given(classes=st.lists(st.sampled_from("abcd"), min_size=5, max_size=120), seed=st.integers(0, 3))
def test_single_rows_are_balanced_to_one_per_class(classes: list[str], seed: int) -> None:
    folds = assign_folds([f"P{i}" for i in range(len(classes))], equal_shares(5), classes=classes, seed=seed)
    for kind in set(classes):
        counts = Counter(fold for fold, other in zip(folds, classes, strict=True) if other == kind)
        assert max(counts.values()) - min(counts.get(str(fold), 0) for fold in range(5)) <= 1
    totals = Counter(folds)
    assert max(totals.values()) - min(totals.get(str(fold), 0) for fold in range(5)) <= 2


def test_knees_of_one_patient_leave_the_classes_even() -> None:
    rng = np.random.default_rng(0)
    groups = [f"{9000000 + patient}" for patient in range(600) for _ in range(rng.integers(1, 5))]
    rare = {name: "rare" if int(name) % 12 == 0 else "common" for name in groups}
    folds = assign_folds(groups, {"train": 0.7, "val": 0.1, "test": 0.2}, classes=[rare[name] for name in groups])
    for kind in ("rare", "common"):
        total = sum(rare[name] == kind for name in groups)
        for fold, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
            there = sum(rare[name] == kind and other == fold for name, other in zip(groups, folds, strict=True))
            assert abs(there - share * total) <= 2, (kind, fold)


def test_the_largest_patients_come_first() -> None:
    for seed in range(5):  # four single rows and one patient with four: only the large one first gives 4 and 4
        folds = assign_folds(["a", "b", "c", "d", *["large"] * 4], equal_shares(2), seed=seed)
        assert sorted(Counter(folds).values()) == [4, 4]


def test_seeds_differ_and_repeat() -> None:
    groups = [str(i) for i in range(40)]
    assert assign_folds(groups, equal_shares(5), seed=1) == assign_folds(groups, equal_shares(5), seed=1)
    assert assign_folds(groups, equal_shares(5), seed=1) != assign_folds(groups, equal_shares(5), seed=2)


def test_the_command_writes_a_table_that_a_stage_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        f"{patient:03d},scans/{patient}_{side}.nii.gz,s{patient % 3},{'yes' if patient % 4 else 'no'}"
        for patient in range(12)
        for side in "LR"
    ]
    source = table(tmp_path / "cases.csv", rows)
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "folds.csv"
    words = [str(source), "--shares", "train=2", "test=1", "--stratify", "label", "--output", str(output)]
    assert split.main(words) == 0
    shown = capsys.readouterr().out
    assert "fold   rows  patients  no  yes" in shown
    assert f"prepare.check {output}" in shown
    cases = read_cases(output, masks=False, targets=["label"])
    assert [case.patient for case in cases][:3] == ["000", "000", "001"]
    assert cases[0].image.resolve() == tmp_path / "scans" / "0_L.nii.gz"
    splits = split_cases(cases, ["train"], [], ["test"], csv_path=output)
    assert (len(splits.train), len(splits.test)) == (16, 8)
    assert Counter(case.targets["label"] for case in splits.test) == {"yes": 6, "no": 2}
    assert split.main(words) == 2
    assert f"{output}: exists already." in capsys.readouterr().err
    assert split.main([*words, "--overwrite"]) == 0


def test_paths_of_further_channels_are_rewritten_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "cases.csv", tmp_path / "out" / "folds.csv"
    source.write_text("PatientID,T1,T2,note\nA,a.nii,b.nii,c.nii\nB,d.nii,e.nii,f.nii\n")
    words = [str(source), "--folds", "2", "--output", str(output), "--channels", "T1", "T2"]
    assert split.main(words) == 0
    (first, _) = read_cases(output, masks=False, channels=["T1", "T2"], extra=["note"])
    assert [path.resolve() for path in first.images] == [tmp_path / "a.nii", tmp_path / "b.nii"]
    assert first.extra["note"] == "c.nii"
    assert split.main([*words[:-1], "T3", "--overwrite"]) == 2
    assert f"{source}:1: has no column T3; found PatientID, T1, T2, note." in capsys.readouterr().err


def test_an_existing_fold_column_is_replaced_in_the_new_table_only(tmp_path: Path) -> None:
    source = tmp_path / "cases.csv"
    source.write_text("PatientID;fold;path\nA;9;a\nB;9;b\n")
    assert split.main([str(source), "--folds", "2"]) == 0
    assert sorted(case.fold for case in read_cases(tmp_path / "cases_folds.csv", masks=False)) == ["0", "1"]
    assert source.read_text() == "PatientID;fold;path\nA;9;a\nB;9;b\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shares", "train"], "--shares train: is not of the form NAME=SHARE, such as train=0.7."),
        (["--shares", "a=1", "a=2"], "--shares a=2: fold a is named twice."),
        (["--shares", "a=1", "b=0"], "The share of fold b is 0; it must be positive."),
        (["--folds", "0"], "--folds is 0; give 1 or more."),
        (["--folds", "3"], "2 patients cannot be spread over 3 folds. Ask for fewer folds (--folds)."),
        (["--stratify", "sex"], "cases.csv:1: has no column sex; found PatientID, path, site, label."),
    ],
)
def test_mistakes(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path / "cases.csv", ["A,a,s,x", "B,b,s,y"])
    assert split.main([str(source), *words]) == 2
    assert message in capsys.readouterr().err


def test_an_empty_patient_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path / "cases.csv", ["A,a,s,x", ",b,s,y", "C,c,s,y"])
    assert split.main([str(source)]) == 2
    assert capsys.readouterr().err == f"{source}: PatientID is empty in row 3. Fill it in or remove the row.\n"

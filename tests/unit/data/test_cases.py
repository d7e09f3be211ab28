import csv
import re
import time
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.data import csv_columns
from fuse_examples.imaging.oai_example.data.cases import Case, read_cases
from fuse_examples.imaging.oai_example.data.problem_lists import rows_in_words, shortened
from fuse_examples.imaging.oai_example.data.splits import split_cases
from fuse_examples.imaging.oai_example.errors import DataError

GOOD = "PatientID,path,fold\n9000099,a,0\n9000296,b/scan.nii.gz,1\n"


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "cases.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path, masks: bool = False, targets: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(DataError) as error:
        read_cases(path, masks=masks, targets=targets)
    assert all(problem.startswith(str(path)) for problem in error.value.problems)
    return [problem.removeprefix(str(path)) for problem in error.value.problems]


def test_a_row_becomes_a_case(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD)
    first, second = read_cases(path, masks=False)
    assert first == Case(2, "9000099", "9000099", str(tmp_path / "a"), None, "0", {})
    assert second.image == tmp_path / "b" / "scan.nii.gz"


def test_segmentation_has_two_paths_and_absolute_ones_stay(tmp_path: Path) -> None:
    (case,) = read_cases(table(tmp_path, "fold,seg_path,img_path,PatientID\n1,/masks/m.nii,a.nii,x\n"), masks=True)
    assert (case.image, case.mask, case.fold) == (tmp_path / "a.nii", Path("/masks/m.nii"), "1")


def test_text_stays_text(tmp_path: Path) -> None:
    text = "PatientID,path,fold,V00COHORT,side\n 007 ,a b,0.0,NA,\n7,c, 0 ,1: Progression,null\n"
    first, second = read_cases(table(tmp_path, text), masks=False, targets=["V00COHORT", "side"])
    assert (first.patient, second.patient) == ("007", "7")
    assert (first.fold, second.fold) == ("0", "0")
    assert first.image.name == "a b"
    assert first.targets == {"V00COHORT": "NA", "side": None}
    assert second.targets == {"V00COHORT": "1: Progression", "side": "null"}


def test_further_columns_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, "PatientID,path,fold,sex\na,b,0.0,F\nc,d,1,\n")
    assert [case.extra for case in read_cases(path, masks=False, extra=["sex", "fold"])] == [
        {"sex": "F", "fold": "0"},
        {"sex": None, "fold": "1"},
    ]
    assert read_cases(path, masks=False)[0].extra == {}
    with pytest.raises(DataError, match=r"has no column site; found PatientID, path, fold, sex"):
        read_cases(path, masks=False, extra=["site"])


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace(",", ";"), GOOD.replace(",", "\t"), GOOD.replace("\n", "\r\n")]
)
def test_what_spreadsheets_make_of_it(tmp_path: Path, text: str | bytes) -> None:
    cases = read_cases(table(tmp_path, text), masks=False)
    assert [(case.row, case.patient, case.fold) for case in cases] == [(2, "9000099", "0"), (3, "9000296", "1")]


def test_rows_are_line_numbers_also_after_blank_lines(tmp_path: Path) -> None:
    cases = read_cases(table(tmp_path, "PatientID,path,fold\n\na,a,0\n,,\nb,b,1\n\n"), masks=False)
    assert [case.row for case in cases] == [3, 5]


def test_missing_columns_are_listed_with_a_suggestion(tmp_path: Path) -> None:
    path = table(tmp_path, "patient_id,img_path,Fold,seg_pth\nx,a,0,b\n")
    assert problems(path, masks=True, targets=("cohort",)) == [
        ":1: has no column PatientID; found patient_id, img_path, Fold, seg_pth. Did you mean patient_id?",
        ":1: has no column seg_path; found patient_id, img_path, Fold, seg_pth. Did you mean seg_pth?",
        ":1: has no column fold; found patient_id, img_path, Fold, seg_pth. Did you mean Fold?",
        ":1: has no column cohort; found patient_id, img_path, Fold, seg_pth.",
    ]


def test_a_column_twice(tmp_path: Path) -> None:
    assert problems(table(tmp_path, "PatientID,path,fold,fold\nx,a,0,1\n")) == [":1: has 2 columns named fold. Keep one."]
    assert read_cases(table(tmp_path, "PatientID,note,path,fold,note\nx,1,a,0,1\n"), masks=False)[0].fold == "0"


def test_empty_cells_are_collected(tmp_path: Path) -> None:
    path = table(tmp_path, "PatientID,path,fold\n,a,0\nx,,0\ny,b,\nz,c,nan\nw,,1\n")
    assert problems(path) == [
        ": PatientID is empty in row 2. Fill it in or remove the row.",
        ": path is empty in rows 3 and 6. Fill it in or remove the row.",
        ": fold is empty in rows 4 and 5. Fill it in or remove the row.",
    ]


def test_the_same_image_twice(tmp_path: Path) -> None:
    path = table(tmp_path, "PatientID,path,fold\nx,a,0\ny,b,0\nz,./a/,1\nw,a,1\n")
    assert problems(path) == [": rows 2, 4 and 5 name the same image, a. Keep one."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty. It needs the columns PatientID, path, fold."),
        ("PatientID,path,fold\n", ": has a header but no rows."),
        ("PatientID,path,fold\n\n,,\n", ": has a header but no rows."),
        ("x" * 140_000, ":1: cannot be read as the header of a table: field larger than field limit (131072)."),
        (GOOD.encode("utf-16"), ": is not UTF-8 text (invalid start byte). Save it as CSV UTF-8."),
        (GOOD.encode() + b"M\xfcller,c,1\n", ": is not UTF-8 text (invalid start byte). Save it as CSV UTF-8."),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert problems(table(tmp_path, text)) == [message]


def test_rows_of_another_length(tmp_path: Path) -> None:
    path = table(tmp_path, 'PatientID,path,fold\nx,"a\n,b",0,\ny,b,c,1\nz,"c,d",1,2\n')
    assert problems(path) == [
        ":4: has 4 cells, the header 3 columns. A text that contains the separator needs quotes.",
        ":5: has 4 cells, the header 3 columns. A text that contains the separator needs quotes.",
    ]
    assert problems(table(tmp_path, "PatientID,path,fold\nx,a,0\ny,b\n")) == [": fold is empty in row 3. Fill it in or remove the row."]


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 200])
def test_lines_and_problems_do_not_depend_on_how_many_rows_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(csv_columns, "ROWS_AT_ONCE", rows_at_once)
    text = 'PatientID,path,fold,note\nx,"a\n,b",0,\n\n,,,\ny,"c\r\nd",1,z\nz,e\n'
    path = table(tmp_path, text.replace("z,e\n", "z,e,2\n"))
    assert [(case.row, case.patient, case.fold) for case in read_cases(path, masks=False)] == [(2, "x", "0"), (6, "y", "1"), (8, "z", "2")]
    long = "".join(f"p{k},i{k},0,,{k % 2 or ''}\n" for k in range(5))
    assert problems(table(tmp_path, text.replace("z,e\n", long + 'q,f,0,"x" y\nr,"g' + "h" * csv.field_size_limit()))) == [
        ":9: has 5 cells, the header 4 columns. A text that contains the separator needs quotes.",
        ":11: has 5 cells, the header 4 columns. A text that contains the separator needs quotes.",
        ":14: cannot be read as a table: field larger than field limit (131072).",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.csv") == [": cannot be read (No such file or directory)."]
    assert problems(tmp_path) == [": cannot be read (Is a directory)."]


def test_names_are_unique_and_fit_for_files(tmp_path: Path) -> None:
    rows = ["1,x/a.nii.gz,0", "2,x/left/,0", "2,x/right,0", "3/4,b.nii,0", "5,y/s,0", "5,z/s,0", "../..,k,0", "AB,l,0", "ab,m,0", "Zoë,n,0"]
    names = [case.name for case in read_cases(table(tmp_path, "PatientID,path,fold\n" + "\n".join(rows)), masks=False)]
    assert names == ["1", "2_left", "2_right", "3_4", "5_row6", "5_row7", "k", "AB_l", "ab_m", "Zoë"]


def test_a_suffix_does_not_collide_with_another_patient(tmp_path: Path) -> None:
    rows = ["2,x/left,0", "2,y/right,0", "2_left,a,0", "x_row6,b,0", "x,c/s,0", "x,d/s,0"]
    names = [case.name for case in read_cases(table(tmp_path, "PatientID,path,fold\n" + "\n".join(rows)), masks=False)]
    assert len({name.casefold() for name in names}) == 6
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)


def test_very_long_identifiers(tmp_path: Path) -> None:
    rows = ["p" * 400 + f"{index},{'q' * 300}{index},0" for index in range(2)]
    names = [case.name for case in read_cases(table(tmp_path, "PatientID,path,fold\n" + "\n".join(rows)), masks=False)]
    assert len(set(names)) == 2
    assert max(map(len, names)) < 200


def test_lists_are_cut() -> None:
    assert shortened(["a"] * 3, shown=2) == ("a", "a", "... and 1 more")
    assert shortened(["a", "b"], shown=2) == ("a", "b")
    assert rows_in_words([3]) == "row 3"
    assert rows_in_words([3, 4, 9]) == "rows 3, 4 and 9"
    assert rows_in_words(range(30), shown=2) == "rows 0, 1, ... and 28 more"


# splits


def cases_of(*rows: tuple[str, str]) -> tuple[Case, ...]:
    return tuple(Case(row, f"c{row}", patient, Path(f"{row}"), None, fold, {}) for row, (patient, fold) in enumerate(rows, start=2))


CSV = Path("cases.csv")
ROWS = cases_of(("a", "0"), ("b", "0"), ("c", "1"), ("d", "2"), ("a", "0"))


def split_problems(cases: tuple[Case, ...], *folds: list[object]) -> list[str]:
    with pytest.raises(DataError) as error:
        split_cases(cases, *folds, csv_path=CSV)
    return list(error.value.problems)


def test_cases_go_where_their_fold_says() -> None:
    splits = split_cases(ROWS, [0], ["1"], [2.0], csv_path=CSV)
    assert [[case.row for case in split] for split in (splits.train, splits.val, splits.test)] == [[2, 3, 6], [4], [5]]
    assert split_cases(ROWS, [0, "0", 1], [], [], csv_path=CSV).train == (*ROWS[:3], ROWS[4])


def test_an_unknown_fold_lists_the_folds_found() -> None:
    assert split_problems(ROWS, [0], ["val"], ["3"]) == [
        "val_folds: cases.csv has no rows of fold val; its folds are 0 (3 rows), 1 (1 row), 2 (1 row).",
        "test_folds: cases.csv has no rows of fold 3; its folds are 0 (3 rows), 1 (1 row), 2 (1 row).",
    ]


def test_a_fold_in_two_lists() -> None:
    assert split_problems(ROWS, [0, 1], ["1.0"], [2, 0]) == [
        "train_folds and val_folds both name fold 1. A fold belongs to one split.",
        "train_folds and test_folds both name fold 0. A fold belongs to one split.",
    ]
    splits = split_cases(ROWS, [0, 1], ["1.0"], [2], allow_patient_overlap=True, csv_path=CSV)
    assert [case.row for case in splits.train if case in splits.val] == [case.row for case in splits.val]


def test_a_patient_in_two_splits() -> None:
    leaking = cases_of(("a", "0"), ("b", "0"), ("a", "1"), ("a", "0"), ("b", "2"), ("c", "2"))
    assert split_problems(leaking, [0], [1], [2]) == [
        "cases.csv: patient a is in train (rows 2 and 5) and in val (row 4)",
        "cases.csv: patient b is in train (row 3) and in test (row 6)",
        "2 patients in more than one split: scores would be too good. "
        "Put all rows of a patient into one fold, or set allow_patient_overlap: true.",
    ]
    splits = split_cases(leaking, [0], [1], [2], allow_patient_overlap=True, csv_path=CSV)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [3, 1, 2]
    assert len(split_cases(leaking, [0], [], ["2"], allow_patient_overlap=True, csv_path=CSV).val) == 0
    assert len(split_problems(leaking, [0], [1], [])) == 2  # b's other row is in a fold that is not used


def test_a_hundred_thousand_rows_open_in_a_second(tmp_path: Path) -> None:
    rows = "".join(f"{i // 2:07d},scans/{i},{i // 2 % 5},{i % 3}\n" for i in range(100_000))
    path = table(tmp_path, "PatientID,path,fold,KL\n" + rows)
    start = time.process_time()
    cases = read_cases(path, masks=False, targets=["KL"])
    split_cases(cases, [0, 1, 2], [3], [4], csv_path=path)
    assert time.process_time() - start < 5  # about 0.6 s
    assert len({case.name for case in cases}) == 100_000


@pytest.mark.slow
def test_a_million_rows_cost_little_more_than_their_text(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    with open(path, "w") as file:
        file.write("PatientID,path,fold,V00COHORT,side\n")
        for i in range(1_000_000):
            file.write(f"{9_000_000 + i // 4},00m/0.C.2/{9_000_000 + i // 4}/2005/{10_000_000 + i},{i // 4 % 5},{i % 3},LEFT\n")
    start = time.process_time()
    with open(path, newline="") as file:
        assert sum(len(row) for row in csv.reader(file)) == 5_000_005
    bare = time.process_time() - start
    start = time.process_time()
    cases = read_cases(path, masks=False, targets=["V00COHORT", "side"])
    split_cases(cases, [0, 1, 2], [3], [4], csv_path=path)
    # Bare reading takes 0.4 s on an idle core of 2022, so that this is the 10 s that a user waits at most, whatever else the machine does.
    assert time.process_time() - start < 20 * bare
    assert (len(cases), cases[-1].image.name, cases[-1].targets) == (1_000_000, "10999999", {"V00COHORT": "0", "side": "LEFT"})
    assert len({case.name for case in cases}) == 1_000_000


def test_channels_name_the_image_columns(tmp_path: Path) -> None:
    text = "PatientID,t1,t2,seg_path,path,fold\nx,a1.nii,a2.nii,m.nii,,0\ny,b1.nii,b2.nii,n.nii,,1\n"
    path = table(tmp_path, text)
    cases = read_cases(path, masks=True, channels=["t2", "t1"])
    assert [case.images for case in cases] == [(tmp_path / f"{x}2.nii", tmp_path / f"{x}1.nii") for x in "ab"]
    assert [case.further_images for case in read_cases(path, masks=False, channels=["t1"])] == [(), ()]
    path.write_text(text.replace("a1.nii", ""))
    with pytest.raises(DataError, match=r"t1 is empty in row 2\. Fill it in or remove the row\."):
        read_cases(path, masks=True, channels=["t2", "t1"])
    with pytest.raises(DataError, match=r"has no column flair; found PatientID, t1, t2"):
        read_cases(path, masks=True, channels=["t2", "flair"])

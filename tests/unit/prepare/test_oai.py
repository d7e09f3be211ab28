"""OAI releases in the forms in which they are handed out, to CSV files that the stages take."""

import csv
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from oai_files import pack, write_contents, write_image03, write_release, write_series, write_tables

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.header_check import check_headers
from fuse_examples.imaging.oai_example.prepare import oai
from fuse_examples.imaging.oai_example.prepare.oai_release.clinical import code_of, number_of, read_grades, read_participants
from fuse_examples.imaging.oai_example.prepare.oai_release.series import series_of_path

Rows = list[dict[str, str]]


def table(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(root: Path, output: Path, *words: str, folds: int = 2) -> int:
    return oai.main([str(root), "--output", str(output), "--folds", str(folds), *words])


def accepted(path: Path, targets: tuple[str, ...] = ()) -> int:
    cases = read_cases(path, masks=False, targets=targets)
    check_headers(cases, csv_path=path)
    return len(cases)


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, list[dict[str, str]]]:
    root = tmp_path / "Package_1" / "results"
    return root, write_release(root)


def test_contents_and_labelled_tables(release: tuple[Path, Rows], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, listed = release
    for name in ("0.C.2", "0.E.1"):
        write_contents(root / "00m" / f"contents.{name.replace('.', '')}.csv", [row for row in listed if row["Folder"].startswith(name)])
    write_tables(tmp_path / "tables")
    output = tmp_path / "data"
    assert run(root.parent, output, "--tables", str(tmp_path / "tables")) == 0
    shown = capsys.readouterr().out
    rows = table(output / "classification.csv")
    assert len(rows) == 12
    assert rows[0] == {
        "PatientID": "9000099", "path": "../Package_1/results/00m/0.C.2/9000099/20050531/00039601", "fold": rows[0]["fold"],
        "side": "RIGHT", "V00COHORT": "1: Progression", "sex": "male", "KL": "0", "age": "50", "bmi": "20.5", "visit": "V00",
        "release": "0.C.2", "date": "20050531", "barcode": "016600039601", "description": "SAG_3D_DESS_RIGHT", "position": "agrees",
    }  # fmt: skip
    grades = {(row["PatientID"], row["side"]): row["KL"] for row in rows}
    assert grades["9000099", "LEFT"] == ""  # project 15 says 0 and 3
    assert grades["9000106", "RIGHT"] == ""  # project 15 has none; 37 is not asked for
    assert grades["9000134", "LEFT"] == "4"
    assert "1 knees have several different KL grades at V00; theirs is left empty." in shown
    assert {row["age"] for row in rows if row["PatientID"] == "9000134"} == {""}
    assert Counter(row["sex"] for row in rows) == {"male": 6, "female": 6}
    assert accepted(output / "classification.csv", ("V00COHORT", "KL", "sex")) == 12
    assert accepted(output / "self_supervised.csv") == 12
    folds: dict[str, set[str]] = {}
    for row in [*rows, *table(output / "self_supervised.csv")]:
        folds.setdefault(row["PatientID"], set()).add(row["fold"])
    assert all(len(names) == 1 for names in folds.values())
    for cohort in ("1: Progression", "2: Incidence", "3: Non-exposed control group"):
        assert {row["fold"] for row in rows if row["V00COHORT"] == cohort} == {"0", "1"}
    assert not (output / "left_out.csv").exists()


def rewritten(folder: Path, change: Callable[[str], str], encoding: str = "latin-1") -> None:
    for path in folder.iterdir():
        path.write_bytes(change(path.read_bytes().decode("latin-1")).encode(encoding))


def quoted(text: str) -> str:
    return "\r\n".join("|".join(f'"{cell}"' for cell in line.split("|")) for line in text.splitlines()) + "\r\n"


def as_numbers(text: str) -> str:
    """As a program writes it that read identifiers as numbers, into a table of commas."""
    return re.sub(r"^(\d{7})\|", r"\1.0|", text, flags=re.M).replace("|", ",")


FORMS: dict[str, tuple[Callable[[str], str], str]] = {
    "quoted, lines of Windows": (quoted, "latin-1"),
    "of a spreadsheet": (lambda text: "\ufeff" + text.replace("|", ";"), "utf-8"),
    "identifiers as numbers": (as_numbers, "latin-1"),
    "an ellipsis of Windows": (lambda text: text.replace("Montréal", "Montr\x85al"), "latin-1"),
}


@pytest.mark.parametrize("form", FORMS)
def test_tables_in_other_forms_say_the_same(form: str, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    for folder in (plain, other):
        write_tables(folder)
    rewritten(other, *FORMS[form])
    assert read_participants(other) == read_participants(plain)
    assert len(read_participants(plain)) == 6
    assert read_grades(other, "V00", ["15"]) == read_grades(plain, "V00", ["15"])
    assert len(read_grades(plain, "V00", ["15"]).by_knee) == 10


def test_contents_that_a_spreadsheet_saved(release: tuple[Path, Rows], tmp_path: Path) -> None:
    root, listed = release
    changed = (lambda code: code.lstrip("0"), lambda code: "1.66E+10", lambda code: "")  # without its zero, rounded, missing
    rows = [{**row, "Barcode": changed[place % 3](row["Barcode"])} for place, row in enumerate(listed)]
    write_contents(root / "contents.csv", rows)
    text = (root / "contents.csv").read_text()
    (root / "contents.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(",", ";").replace("\n", "\r\n").encode())
    assert run(root, tmp_path / "data", "--visits", "V00", "V01") == 0
    found = table(tmp_path / "data" / "self_supervised.csv")
    assert {(row["visit"], row["side"]) for row in found} == {("V00", "LEFT"), ("V00", "RIGHT"), ("V01", "RIGHT")}
    assert [row["barcode"] for row in found] == ["0166" + row["path"].rpartition("/")[2] for row in found]


def test_contents_in_an_older_encoding(release: tuple[Path, Rows], tmp_path: Path) -> None:
    root, listed = release
    write_contents(root / "contents.csv", [{**row, "StudyDescription": "Montréal " + row["StudyDescription"]} for row in listed])
    expected = (root / "contents.csv").read_text()
    (root / "contents.csv").write_bytes(expected.encode("latin-1"))
    assert run(root, tmp_path / "data") == 0
    assert len(table(tmp_path / "data" / "self_supervised.csv")) == 12


def test_folders_alone_and_bare_codes(release: tuple[Path, Rows], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tables(tmp_path / "labelled")
    write_tables(tmp_path / "bare", labelled=False, separator=",", upper=True)
    assert read_participants(tmp_path / "bare") == read_participants(tmp_path / "labelled")
    assert read_grades(tmp_path / "bare", "V00", ["15"]) == read_grades(tmp_path / "labelled", "V00", ["15"])
    root, _ = release
    words = ("--tables", str(tmp_path / "bare"), "--cohorts", "progression", "3", "--visits", "00m", "V01")
    assert run(root / "00m", tmp_path / "baseline", *words) == 0
    assert {row["V00COHORT"] for row in table(tmp_path / "baseline" / "classification.csv")} == {
        "1: Progression",
        "3: Non-exposed control group",
    }
    assert run(root, tmp_path / "data", *words) == 0
    shown = capsys.readouterr().out
    assert "There is no kXR_SQ_BU01, so KL is empty at V01." in shown
    rows = table(tmp_path / "data" / "self_supervised.csv")
    assert Counter(row["visit"] for row in rows) == {"V00": 12, "V01": 2}
    assert [(row["barcode"], row["KL"]) for row in rows if row["visit"] == "V01"] == [("016610039601", ""), ("016610139601", "")]
    assert Counter(row["V00COHORT"] for row in table(tmp_path / "data" / "classification.csv")) == {
        "1: Progression": 6,
        "3: Non-exposed control group": 4,
    }


def test_the_manifest_of_nda_and_packed_series(release: tuple[Path, Rows], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, listed = release
    write_image03(tmp_path / "package" / "image03.txt", listed)
    shutil.move(root, tmp_path / "package" / "image03")
    pack(tmp_path / "package" / "image03")
    assert run(tmp_path / "package", tmp_path / "data") == 2
    assert "00039601.tar.gz is still packed; pass --unpack" in capsys.readouterr().err
    assert run(tmp_path / "package", tmp_path / "data", "--unpack") == 0
    rows = table(tmp_path / "data" / "self_supervised.csv")
    assert len(rows) == 12
    assert rows[0]["path"] == "../package/image03/00m/0.C.2/9000099/20050531/00039601/00039601"
    assert "V00COHORT" not in rows[0]
    assert accepted(tmp_path / "data" / "self_supervised.csv") == 12
    assert not (tmp_path / "data" / "classification.csv").exists()
    unpacked = list((tmp_path / "package" / "image03").rglob("001"))
    assert len(unpacked) == 12  # not the other sequences, not the other visits


def test_the_later_of_repeated_scans_unless_it_is_broken(release: tuple[Path, Rows], tmp_path: Path) -> None:
    root, _ = release
    write_series(root, "0.C.2", "9000099", "20050531", "00039701", "SAG_3D_DESS_RIGHT")
    write_series(root, "0.E.1", "9000106", "20050601", "00000001", "SAG_3D_DESS_LEFT")
    write_series(root, "0.C.2", "9000113", "20050531", "00939601", "SAG_3D_DESS_LEFT")
    (root / "00m" / "0.C.2" / "9000113" / "20050531" / "00939601" / "002").unlink()
    assert run(root, tmp_path / "data") == 0
    paths = {row["path"].partition("00m/")[2] for row in table(tmp_path / "data" / "self_supervised.csv")}
    assert "0.C.2/9000099/20050531/00039701" in paths
    assert "0.E.1/9000106/20050601/00000001" in paths
    assert "0.C.2/9000113/20050531/00239602" in paths
    assert len(paths) == 12
    left = {row["series"]: row["reason"] for row in table(tmp_path / "data" / "left_out.csv")}
    assert left["0.C.2/9000099/20050531/00039601"] == "was repeated in the same visit; 0.C.2/9000099/20050531/00039701 is the later scan"
    assert left["0.E.1/9000106/20050531/00139602"] == "was repeated in the same visit; 0.E.1/9000106/20050601/00000001 is the later scan"
    assert "slices are missing: 1 between 001 and 003" in left["0.C.2/9000113/20050531/00939601"]
    assert len(left) == 3


def test_contradictions_are_left_out_and_positions_compared(
    release: tuple[Path, Rows], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, listed = release
    listed.append(write_series(root, "0.C.2", "9000141", "20050531", "00700001", "SAG_3D_DESS_LEFT", study="OAI^MR^ENROLLMENT^RIGHT"))
    listed.append(write_series(root, "0.C.2", "9000148", "20050531", "00700002", "SAG_3D_DESS_LEFT", header_patient="9999999"))
    listed.append(
        write_series(root, "0.C.2", "9000155", "20050531", "00700003", "SAG_3D_DESS_LEFT", header_description="SAG_3D_DESS_RIGHT")
    )
    listed.append({**listed[0], "Folder": "0.C.2/9000162/20050531/00700004"})
    swapped = write_series(
        root, "0.C.2", "9000169", "20050531", "00700005", "SAG_3D_DESS_RIGHT", study="OAI", header_description="SAG_3D_DESS_LEFT"
    )
    listed.append({**swapped, "SeriesDescription": "SAG_3D_DESS_LEFT", "StudyDescription": ""})
    write_contents(root / "contents.csv", listed)
    assert run(root, tmp_path / "data") == 0
    shown = capsys.readouterr().out
    left = {row["PatientID"]: row["reason"] for row in table(tmp_path / "data" / "left_out.csv")}
    assert left == {
        "9000141": "its series description says LEFT, its study description RIGHT",
        "9000148": "its header names participant 9999999, its path 9000148",
        "9000155": "its header says SAG_3D_DESS_RIGHT, the list SAG_3D_DESS_LEFT",
        "9000162": f"{root / '00m' / '0.C.2' / '9000162' / '20050531' / '00700004'} does not exist",
    }
    (odd,) = [row for row in table(tmp_path / "data" / "self_supervised.csv") if row["position"] != "agrees"]
    assert (odd["PatientID"], odd["side"], odd["position"]) == ("9000169", "LEFT", "disagrees")
    assert "1 series lie on the other side of the scanner than described, such as 0.C.2/9000169/20050531/00700005" in shown


def test_reading_projects_in_order(tmp_path: Path) -> None:
    write_tables(tmp_path)
    first = read_grades(tmp_path, "V00", ["15", "37"])
    assert first is not None
    assert first.by_knee["9000106", "RIGHT"] == "4"  # 15 has none, 37 says 4
    assert first.by_knee["9000106", "LEFT"] == "1"  # 15 goes before 37
    assert first.contradictory == (("9000099", "LEFT"),)
    second = read_grades(tmp_path, "V00", ["37"])
    assert second is not None
    assert set(second.by_knee.values()) == {"4"}


def test_cells_of_the_tables() -> None:
    cells = ("1: Progression", "1", "1.0", " 2 ", ".: Missing Form/Incomplete Workbook", ".A: Not Expected", "", "nan", "12 months")
    assert [code_of(text) for text in cells] == ["1", "1", "1", "2", "", "", "", "", ""]
    assert [number_of(text) for text in ("53", "23.5", ".", ".A: Not Expected", "")] == ["53", "23.5", "", "", ""]


def test_series_paths() -> None:
    paths = ("s3://a/submission_1/00m/0.E.1/9005075/20050926/10593811.tar.gz", r"0.E.1\9005075\20050926\10593811")
    for path in paths:
        series = series_of_path(path)
        assert series is not None
        assert (series.name, series.visit, series.barcode) == ("0.E.1/9005075/20050926/10593811", "V00", "016610593811")
    late = series_of_path("10.E.1/9005075/20150926/10593811")
    assert late is not None
    assert late.visit == "V10"
    assert series_of_path("00m/0.E.1/9005075/xray.zip") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--visits", "V07"], "--visits V07: visits are V00 (00m), V01 (12m)"),
        (["--visits", "V03"], "No series of V03; found 18 of V00, 2 of V01."),
        (["--cohorts", "healthy", "1"], "--cohorts healthy: is not one of 1: Progression, 2: Incidence, 3: Non-exposed control group."),
        (["--description", "SAG_T2*"], "No series description fits SAG_T2*. Found:\n  6 x "),
        (["--folds", "9"], "6 patients cannot be spread over 9 folds."),
        (["--tables", "tables_of_nobody"], "tables_of_nobody: is not a folder."),
    ],
)  # fmt: skip
def test_mistakes(words: list[str], message: str, release: tuple[Path, Rows], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(release[0], tmp_path / "data", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_mistakes_in_tables_and_folders(release: tuple[Path, Rows], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, listed = release
    tables = tmp_path / "tables"
    write_tables(tables)
    text = (tables / "Enrollees.txt").read_text(encoding="latin-1")
    (tables / "Enrollees.txt").write_text(text.replace("2: Incidence", "7: Other"), encoding="latin-1")
    assert run(root, tmp_path / "data", "--tables", str(tables)) == 2
    assert f"{tables / 'Enrollees.txt'}:4: V00COHORT is '7: Other' and P02SEX '1: Male'; codes are 1-3 and 1-2." in capsys.readouterr().err
    (tables / "enrollees.csv").write_text(text, encoding="latin-1")
    assert run(root, tmp_path / "data", "--tables", str(tables)) == 2
    assert "holds 2 tables Enrollees (" in capsys.readouterr().err
    assert run(tables, tmp_path / "data") == 2
    assert "holds no release folder (such as 0.E.1), no contents.csv and no image03.txt." in capsys.readouterr().err
    write_contents(tmp_path / "contents.csv", [{**listed[0], "Folder": "somewhere"}])
    assert run(root, tmp_path / "data", "--list", str(tmp_path / "contents.csv")) == 2
    assert f"{tmp_path / 'contents.csv'}:2: Folder is 'somewhere', not release/participant/date/series." in capsys.readouterr().err
    assert run(root, tmp_path / "data") == 0
    assert run(root, tmp_path / "data") == 2
    assert f"{tmp_path / 'data' / 'self_supervised.csv'}: exists already." in capsys.readouterr().err

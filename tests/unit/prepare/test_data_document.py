"""Every command of docs/data.md, run on small data under the names that it uses; what it writes, the stages read."""

import re
import runpy
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from contour_files import SLICES, write_knee, write_mat
from oai_files import pack, write_image03, write_release, write_tables
from test_archives import decathlon_task, nnunet_set, packed
from test_dicom_tree import name as named_file
from test_dicom_tree import named, series_in, voxels
from test_imorphics import write_iwoai

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.header_check import check_headers

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "data.md").read_text()
COMMANDS = runpy.run_path(str(ROOT / "tests" / "unit" / "test_documents.py"))["commands"](DOCUMENT)
ENTRIES = {
    path.stem for path in (ROOT / "fuse_examples" / "imaging" / "oai_example" / "prepare").glob("*.py") if "__main__" in path.read_text()
}


def lay_out(folder: Path) -> None:
    """Small data under the names of the document."""
    packed(decathlon_task(folder / "Task04_Hippocampus"), folder / "Task04_Hippocampus.tar")
    nnunet_set(folder / "Dataset004_Knee", {"background": 0, "femur": 1, "tibia": 2}, {"channel_names": {"0": "DESS"}})
    knees = folder / "Dataset004_Knee"
    for path in [*knees.glob("*/oaizib_*")]:
        path.rename(path.with_name(re.sub(r"oaizib_(\d+)", lambda match: f"{900 + int(match[1]) // 2}_V0{int(match[1]) % 2}", path.name)))
    knees = []
    for k, patient in enumerate(("9000200", "9000207")):
        for visit, (month, release) in enumerate((("00m", "0.C.2"), ("12m", "1.C.2"))):
            place = folder / "OAI" / "image03" / month / release / patient / f"200{visit + 5}0101" / f"9{k}{visit}00000"
            values = write_knee(place, "RIGHT", lateral_first=True, patient=patient, visit=visit)
            write_mat(folder / "iMorphics" / patient / f"V0{visit}" / f"{patient}.mat", lateral_first=True)
            keys = ("Folder", "ParticipantID", "SeriesDescription")
            name = place.relative_to(folder / "OAI" / "image03" / month).as_posix()
            knees.append(dict(zip(keys, (name, patient, "SAG_3D_DESS_RIGHT"), strict=True)))
    write_iwoai(folder / "IWOAI", "train_001_V00", values, np.arange(SLICES))
    write_image03(folder / "OAI" / "image03.txt", [*write_release(folder / "OAI" / "image03"), *knees])
    pack(folder / "OAI" / "image03")
    write_tables(folder / "OAI_tables")
    for number in range(1, 7):
        series_in(folder / "scans" / f"{number}", voxels(number), change=named(f"000{number}", 1, "SAG_3D_DESS_LEFT"))
    for patient in ("0001", "0002"):
        for number in (1, 2):
            ending = named_file(str(number))
            series_in(folder / "mixed" / patient, voxels(number), change=named(patient, number, "DESS"), file_name=ending)
    rows = [f"P{number},{number}.nii.gz,{'1: Progression' if number % 2 else '2: Incidence'},F{number // 3}" for number in range(12)]
    (folder / "cases.csv").write_text("\n".join(["PatientID,path,V00COHORT,family", *rows]) + "\n")


def test_every_command_does_what_the_document_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    for words in COMMANDS:
        assert words[:2] == ["python", "-m"], words
        assert import_module(words[2]).main(words[3:]) == 0, (words, capsys.readouterr().err)
    tables = [path for path in tmp_path.rglob("*.csv") if "fold" in path.read_text().splitlines()[0] and path.name != "check.csv"]
    assert len(tables) >= 6
    for table in tables:
        masks = "seg_path" in table.read_text().splitlines()[0]
        cases = read_cases(table, masks=masks)
        if table.parent != tmp_path:  # the scans of cases.csv are invented
            check_headers(cases, csv_path=table)
    visits = read_cases(tmp_path / "data" / "visits" / "segmentation.csv", masks=True)
    assert {case.patient for case in visits} == {"900", "901", "902", "1102"}


def test_every_command_is_in_the_document() -> None:
    assert {words[2].rpartition(".")[2] for words in COMMANDS} == ENTRIES - {"synthetic_knee", "demo_verdict"}

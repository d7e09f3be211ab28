"""A small OAI release on disk in the forms in which it is handed out, left and right, with its clinical tables."""

import csv
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from series_files import SAGITTAL, series_in

STUDY = {"0.C.2": "ENROLLMENT", "0.E.1": "ENROLLMENT", "1.C.2": "12 MONTH"}
MONTHS = {"0": "00m", "1": "12m"}
Listed = dict[str, str]


def write_series(root: Path, release: str, patient: str, date: str, number: str, description: str, **more: str) -> Listed:
    """Write a series of 6 slices of 6 x 5 pixels as OAI does, files 001 to 006; return its row of contents.csv."""
    side = "LEFT" if "LEFT" in description else "RIGHT"
    study = more.pop("study", f"OAI^MR^{STUDY[release]}^{side}")
    values = np.random.default_rng(int(number)).integers(0, 999, (6, 6, 5)).astype(np.int16)
    middle = 60 if side == "LEFT" else -60  # mm in DICOM's own axes, which point to the patient's left

    def change(dataset: Dataset, index: int) -> None:
        dataset.PatientID, dataset.StudyDate, dataset.StudyDescription = more.get("header_patient", patient), date, study
        dataset.SeriesDescription, dataset.AccessionNumber = more.get("header_description", description), f"0166{number}"
        dataset.SeriesInstanceUID = f"1.3.12.2.{int(number)}"

    folder = root / MONTHS[release[0]] / release / patient / date / number
    series_in(folder, values, origin=(middle, -10, 10), change=change, file_name=lambda index: f"{index + 1:03d}", directions=SAGITTAL)
    keys = ("Folder", "ParticipantID", "StudyDate", "Barcode", "StudyDescription", "SeriesDescription")
    return dict(zip(keys, (f"{release}/{patient}/{date}/{number}", patient, date, f"0166{number}", study, description), strict=True))


def write_release(root: Path, patients: int = 6) -> list[Listed]:
    """Write both knees' DESS of every participant and another series, at baseline and for two of them a year later."""
    rows = []
    for k in range(patients):
        patient, release = str(9000099 + 7 * k), ("0.C.2", "0.E.1")[k % 2]
        rows.append(write_series(root, release, patient, "20050531", f"00{k}39601", "SAG_3D_DESS_RIGHT"))
        rows.append(write_series(root, release, patient, "20050531", f"00{k}39602", "SAG_3D_DESS_LEFT"))
        rows.append(write_series(root, release, patient, "20050531", f"00{k}39603", "COR_IW_TSE_LEFT"))
        if k < 2:
            rows.append(write_series(root, "1.C.2", patient, "20060601", f"10{k}39601", "SAG_3D_DESS_RIGHT"))
    return rows


def write_contents(path: Path, rows: Sequence[Listed]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_image03(path: Path, rows: Sequence[Listed]) -> None:
    """NDA's manifest: tabs, quotes, a second header row of definitions, and rows of X-rays with paths of another form."""
    columns = {
        "collection_id": "collection_id",
        "subjectkey": "The NDAR Global Unique Identifier (GUID) for research subject",
        "src_subject_id": "Subject ID how it's defined in lab/project",
        "interview_date": "Date on which the interview was completed. MM/DD/YYYY",
        "sex": "Sex of subject at birth",
        "visit": "Visit name",
        "image_file": "Data file (image, behavioral, anatomical, etc)",
        "image_description": "Image description, i.e. DTI, fMRI",
        "image_modality": "Image modality",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writerows([list(columns), list(columns.values())])
        for row in rows:
            month = MONTHS[row["Folder"][0]]
            address = f"s3://NDAR_Central_1/submission_13364/{month}/{row['Folder']}.tar.gz"
            patient = row["ParticipantID"]
            writer.writerow(["2343", f"NDAR{patient}", patient, "05/31/2005", "F", month, address, row["SeriesDescription"], "MRI"])
        writer.writerow(["2343", "NDARX", "9000099", "05/31/2005", "F", "00m", "s3://NDAR_Central_1/submission_1/xray.zip", "PA", "X-Ray"])


def pack(root: Path) -> None:
    """Turn every series' folder into the archive that NDA sends."""
    for folder in [*root.glob("*m/*/*/*/*")]:
        with tarfile.open(folder.with_name(folder.name + ".tar.gz"), "w:gz") as archive:
            archive.add(folder, folder.name)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def write_tables(folder: Path, *, labelled: bool = True, separator: str = "|", upper: bool = False) -> None:
    """Enrollees, AllClinical00 and kXR_SQ_BU00; six participants of three cohorts, with the kinds of cells that the real ones have."""
    folder.mkdir(parents=True, exist_ok=True)
    label = (lambda code, text: f"{code}: {text}") if labelled else (lambda code, text: str(code))
    missing = (".: Missing Form/Incomplete Workbook", ".A: Not Expected") if labelled else (".", ".A")
    cohorts = {1: "Progression", 2: "Incidence", 3: "Non-exposed control group"}
    ids = [9000099 + 7 * k for k in range(6)]
    enrolled = [["ID", "VERSION", "P02SEX", "V00COHORT", "V00SITE"]]
    enrolled += [
        [str(name), "25", label(k % 2 + 1, ("Male", "Female")[k % 2]), label(k // 2 + 1, cohorts[k // 2 + 1]), "Montréal"]
        for k, name in enumerate(ids)
    ]
    clinical = [["ID", "VERSION", "V00AGE", "P01BMI"], *([str(name), "0.2.3", str(50 + k), f"2{k}.5"] for k, name in enumerate(ids))]
    clinical[6][2] = missing[0]
    readings = [["ID", "SIDE", "READPRJ", "VERSION", "V00BARCDBU", "V00XRKL"]]
    for k, name in enumerate(ids):
        for side in (1, 2):
            grade = label(min(k, 4), ("normal", "doubtful", "minimal", "moderate", "severe")[min(k, 4)])
            readings.append([str(name), label(side, ("Right", "Left")[side - 1]), "15", "0.6", f"0166{name}", grade])
            readings.append([str(name), label(side, ("Right", "Left")[side - 1]), "37", "0.6", f"0166{name}", label(4, "severe")])
    first = str(ids[0])
    readings.append([*readings[1]])  # repeated, the same: counts once
    readings.append([first, label(2, "Left"), "15", "0.6", "", label(3, "moderate")])  # another grade of the same project
    readings[5][5] = missing[1]  # the second participant's right knee, project 15
    for name, rows in (("Enrollees", enrolled), ("AllClinical00", clinical), ("kXR_SQ_BU00", readings)):
        stem, ending = (name.upper(), ".CSV") if upper else (name, ".txt")
        header = [cell.lower() if upper else cell for cell in rows[0]]
        lines = [separator.join(cells) for cells in [header, *rows[1:]]]
        (folder / f"{stem}{ending}").write_bytes(("\r\n".join(lines) + "\r\n").encode("latin-1"))

"""OAI's clinical tables: ASCII ("1: Progression") or bare codes (1), pipes or commas, any case of file and column names."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.sides import LEFT, RIGHT
from fuse_examples.imaging.oai_example.prepare.tables.text_table import TextTable, read_text_table

COHORTS = {"1": "1: Progression", "2": "2: Incidence", "3": "3: Non-exposed control group"}
SEXES = {"1": "male", "2": "female"}
SIDES = {"1": RIGHT, "2": LEFT}
GRADES = ("0", "1", "2", "3", "4")
ENDINGS = (".txt", ".csv", ".tsv")
Knee = tuple[str, str]  # participant, side


@dataclass(frozen=True)
class Participant:
    """What the baseline tables say of a participant; "" for what is missing.

    Attributes:
        cohort: as COHORTS has it, for the person and not for a knee.
        sex: male or female.
        age: years at baseline.
        bmi: body-mass index at baseline, kg / m^2.
    """

    cohort: str
    sex: str
    age: str = ""
    bmi: str = ""


@dataclass(frozen=True)
class Grades:
    """Kellgren-Lawrence grades of a visit.

    Attributes:
        by_knee: the grade, "0" to "4".
        contradictory: knees of which one reading project has several different grades; they have none in `by_knee`.
    """

    by_knee: dict[Knee, str] = field(default_factory=dict)
    contradictory: tuple[Knee, ...] = ()


def code_of(text: str) -> str:
    """Return the code of a cell: "1" of "1: Progression", "1" and "1.0"; "" where it is missing (".", ".A: Not Expected", "nan", empty)."""
    match = re.match(r"\s*(\d+)(?:\.0+)?\s*(?::|$)", text)
    return match[1] if match else ""


def participant_of(text: str) -> str:
    """Return a participant's identifier without the ".0" that programs which read it as a number write behind it."""
    return re.sub(r"\.0+$", "", text)


def number_of(text: str) -> str:
    """Return a measured number as it is written; "" where it is missing."""
    return text if re.fullmatch(r"-?\d+(\.\d+)?", text) else ""


def read_participants(folder: Path) -> dict[str, Participant]:
    """Read Enrollees, and AllClinical00 where it is there; raise `DataError` where Enrollees is missing or a code is unknown."""
    table = find_table(folder, "Enrollees")
    if table is None:
        raise DataError(f"{folder}: holds no Enrollees table ({', '.join(f'Enrollees{ending}' for ending in ENDINGS)}).")
    more: dict[str, dict[str, str]] = {}
    clinical = find_table(folder, "AllClinical00")
    if clinical is not None:
        more = {participant_of(row["ID"]): row for row in clinical.records(["ID", "V00AGE", "P01BMI"])}
    participants: dict[str, Participant] = {}
    problems = []
    for row, line in zip(table.records(["ID", "V00COHORT", "P02SEX"]), table.lines, strict=True):
        cohort, sex = code_of(row["V00COHORT"]), code_of(row["P02SEX"])
        if (cohort and cohort not in COHORTS) or (sex and sex not in SEXES):
            problems.append(f"{table.path}:{line}: V00COHORT is {row['V00COHORT']!r} and P02SEX {row['P02SEX']!r}; codes are 1-3 and 1-2.")
        person = participant_of(row["ID"])
        extra = more.get(person, {})
        age, bmi = number_of(extra.get("V00AGE", "")), number_of(extra.get("P01BMI", ""))
        participants[person] = Participant(COHORTS.get(cohort, ""), SEXES.get(sex, ""), age, bmi)
    if problems:
        raise DataError(problems[:20])
    return participants


def read_grades(folder: Path, visit: str, projects: Sequence[str]) -> Grades | None:
    """Read the Kellgren-Lawrence grades of a visit from kXR_SQ_BU; None where there is no such table.

    The table has several rows for many knees, one per reading project. A knee has the grade of the first project in `projects` that
    graded it. Rows of that project that repeat the grade count once; if they differ, the knee has no grade.

    Args:
        folder: where the tables are.
        visit: such as V00.
        projects: values of READPRJ; 15 is the project that read nearly all knees.
    """
    table = find_table(folder, f"kXR_SQ_BU{visit[1:]}")
    if table is None:
        return None
    found: dict[Knee, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in table.records(["ID", "SIDE", "READPRJ", f"{visit}XRKL"]):
        side, grade = SIDES.get(code_of(row["SIDE"])), code_of(row[f"{visit}XRKL"])
        if side and grade in GRADES:
            found[participant_of(row["ID"]), side][code_of(row["READPRJ"])].add(grade)
    by_knee: dict[Knee, str] = {}
    contradictory = []
    for knee, grades in found.items():
        chosen = next((grades[project] for project in projects if project in grades), set())
        if len(chosen) == 1:
            by_knee[knee] = next(iter(chosen))
        elif chosen:
            contradictory.append(knee)
    return Grades(by_knee, tuple(sorted(contradictory)))


def chosen_cohorts(words: Iterable[str]) -> tuple[str, ...]:
    """Return the full names of cohorts given by code or by the beginning of their name; raise `DataError` for others."""
    chosen, problems = [], []
    for word in words:
        fits = [name for code, name in COHORTS.items() if word in (code, name) or name[3:].lower().startswith(word.lower())]
        if len(fits) == 1 and word:
            chosen += fits
        else:
            problems.append(f"--cohorts {word}: is not one of {', '.join(COHORTS.values())}.")
    if problems:
        raise DataError(problems)
    return tuple(dict.fromkeys(chosen))


def find_table(folder: Path, stem: str) -> TextTable | None:
    """Return the table of this name in `folder` or below, whatever the case of its name; raise `DataError` for two of them."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder.")
    names = {f"{stem}{ending}".lower() for ending in ENDINGS}
    files = sorted(path for path in folder.rglob("*") if path.name.lower() in names and path.is_file())
    if len(files) > 1:
        raise DataError(f"{folder}: holds {len(files)} tables {stem} ({', '.join(str(path) for path in files)}). Keep one.")
    return read_text_table(files[0], encodings=("utf-8-sig", "latin-1")) if files else None

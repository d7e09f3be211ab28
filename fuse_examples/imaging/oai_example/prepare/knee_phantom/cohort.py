"""Who is in the data set: patients, their knees, visits, cohorts and folds."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fuse_examples.imaging.oai_example.prepare.knee_phantom.allocation import SeriesTraits, allocate
from fuse_examples.imaging.oai_example.prepare.knee_phantom.dicom_series import SeriesNames
from fuse_examples.imaging.oai_example.prepare.knee_phantom.scanner import (
    SCANNERS,
    Pose,
    Scan,
    Scanner,
    Side,
    draw_next_pose,
    draw_pose,
    scan_knee,
)
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import (
    CONTROL,
    PROGRESSION,
    KneeShape,
    draw_patient_thickness,
    draw_shape,
    expected_log_volume,
    other_knee,
    with_thickness,
)


@dataclass(frozen=True)
class PlannedSeries:
    """One series to be scanned and written. `stream` seeds its noise; `gain` multiplies its scanner's."""

    names: SeriesNames
    cohort: str
    fold: int
    scanner: Scanner
    shape: KneeShape
    pose: Pose
    gain: float
    stream: tuple[int, ...]

    def scan(self) -> Scan:
        """Image the knee; the same plan gives the same scan."""
        return scan_knee(np.random.default_rng(self.stream), self.shape, self.names.side, self.pose, self.scanner, self.gain)


@dataclass(frozen=True)
class PlannedPatient:
    """A patient with one to four series; the first is segmented if `labelled`, and read from NIfTI if `nifti`."""

    number: int
    patient: str
    labelled: bool
    nifti: bool
    series: tuple[PlannedSeries, ...]


@dataclass(frozen=True)
class _Traits:
    """What a patient has besides cartilage of some thickness."""

    scanner: Scanner
    sides: tuple[Side, ...]
    visits: tuple[str, ...]
    shape: KneeShape
    gain: float

    def series_numbers(self) -> list[list[float]]:
        """Per series, what must not tell the cohort: expected volume in mm³, intensity, side, volume in voxels; spacings and visit."""
        volume, intensity = expected_log_volume(self.shape), float(np.log(self.scanner.gain * self.gain))
        voxels = volume - float(np.log(np.prod(self.scanner.spacing)))
        through, in_plane, _ = self.scanner.spacing
        return [
            [volume, intensity, float(side == "LEFT"), voxels, through, in_plane, float(visit == "V01")]
            for side in self.sides
            for visit in self.visits
        ]

    def numbers(self) -> list[float]:
        """Of the patient: the mean over the series, the scanner, and the number of knees and visits."""
        scanner = [float(self.scanner == other) for other in SCANNERS[1:]]
        return [*np.mean(self.series_numbers(), axis=0), *scanner, len(self.sides), len(self.visits)]


def plan_patients(seed: int, patients: int, labelled: int) -> list[PlannedPatient]:
    """Plan the whole data set; the same arguments give the same plan."""
    rng = np.random.default_rng([seed, 0])
    # Identifiers of OAI participants begin with a 9: none of these is one.
    identifiers = rng.choice(np.arange(1_000_000, 2_000_000), size=patients, replace=False)
    traits = [_draw_traits(np.random.default_rng([seed, 1, number])) for number in range(patients)]
    groups = (np.arange(patients) < labelled).astype(np.int64)
    rows = [(number, row) for number, trait in enumerate(traits) for row in trait.series_numbers()]
    watched = SeriesTraits(np.array([row for _, row in rows]), np.array([number for number, _ in rows]), watched=4)
    allocation = allocate(rng, np.array([trait.numbers() for trait in traits]), groups, watched)
    planned = []
    for number, trait in enumerate(traits):
        cohort = PROGRESSION if allocation.cohort[number] else CONTROL
        series = tuple(_plan_series(seed, number, str(identifiers[number]), cohort, int(allocation.fold[number]), trait))
        planned.append(PlannedPatient(number, str(identifiers[number]), number < labelled, number % 2 == 1, series))
    return planned


def _draw_traits(rng: np.random.Generator) -> _Traits:
    both, later = rng.uniform(size=2)
    sides: tuple[Side, ...] = ("RIGHT", "LEFT") if rng.uniform() < 0.5 else ("LEFT", "RIGHT")
    return _Traits(
        scanner=SCANNERS[int(rng.integers(len(SCANNERS)))],
        sides=sides if both < 0.25 else sides[:1],
        visits=("V00", "V01") if later < 0.2 else ("V00",),
        shape=draw_shape(rng),
        gain=float(np.exp(0.12 * np.clip(rng.standard_normal(), -2, 2))),
    )


def _plan_series(seed: int, number: int, patient: str, cohort: str, fold: int, traits: _Traits) -> Iterator[PlannedSeries]:
    rng = np.random.default_rng([seed, 2, number])
    first = with_thickness(traits.shape, draw_patient_thickness(rng, cohort))
    enrolled = datetime.date(2004, 2, 1) + datetime.timedelta(days=int(rng.integers(800)))
    for k, side in enumerate(traits.sides):
        shape = first if k == 0 else other_knee(rng, first)
        pose = draw_pose(rng, side)
        for v, visit in enumerate(traits.visits):
            date = enrolled + datetime.timedelta(days=v * int(rng.integers(340, 400)))
            names = SeriesNames(patient, visit, side, f"{date:%Y%m%d}", f"{10_000_000 + number * 100 + k * 10 + v:08d}")
            yield PlannedSeries(names, cohort, fold, traits.scanner, shape, pose, traits.gain, (seed, 3, number, k, v))
            pose = draw_next_pose(rng, pose)

"""What only shows in comparison: outliers of spacing and size, planes and labels unlike the rest, repeated images, torn patients."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from fuse_examples.imaging.oai_example.data.problem_lists import rows_in_words
from fuse_examples.imaging.oai_example.geometry.volume import RAS
from fuse_examples.imaging.oai_example.prepare.checking.case_check import CheckedCase, plane_of

AXES = ("left-right", "posterior-anterior", "inferior-superior")
MIN_CASES = 5
DEVIATIONS = 5.0  # of the standard deviation that the median absolute deviation stands for
SPACING_MARGIN, SIZE_MARGIN = 0.1, 0.25  # of the median: less is never called an outlier
RARE = 0.1  # share of cases up to which values are outliers
USUAL = 0.8  # share of cases from which on a plane or label is what one expects


def with_notes(checked: Sequence[CheckedCase]) -> list[CheckedCase]:
    """Return the cases with a note on each value that is unlike the others'."""
    notes: dict[int, list[str]] = defaultdict(list)
    _outliers(checked, notes)
    _unusual_planes(checked, notes)
    _unusual_labels(checked, notes)
    return [entry.noted(*notes[place]) for place, entry in enumerate(checked)]


def outlying(values: Sequence[float], margin: float) -> list[bool]:
    """Say of each value whether it is further from the median than 5 robust standard deviations (1.4826 MAD) and `margin` of the median.

    Where more than a tenth of the values would be, they are another group (a second scanner, say) and no outliers: none is.
    """
    array = np.asarray(values, float)
    median = float(np.median(array))
    distance = np.abs(array - median)
    far = distance > max(DEVIATIONS * 1.4826 * float(np.median(distance)), margin * abs(median))
    return [bool(odd) for odd in far] if far.sum() <= max(1, RARE * len(array)) else [False] * len(array)


def _outliers(checked: Sequence[CheckedCase], notes: dict[int, list[str]]) -> None:
    grids = [(place, entry.header.source.oriented(RAS)) for place, entry in enumerate(checked) if entry.header]
    if len(grids) < MIN_CASES:
        return
    for axis, name in enumerate(AXES):
        spacings, sizes = [grid.spacing[axis] for _, grid in grids], [grid.shape[axis] for _, grid in grids]
        for (place, _), value, odd in zip(grids, spacings, outlying(spacings, SPACING_MARGIN), strict=True):
            if odd:
                notes[place].append(f"spacing of {value:.3g} mm {name}; the median is {np.median(spacings):.3g}")
        for (place, _), size, odd in zip(grids, sizes, outlying(sizes, SIZE_MARGIN), strict=True):
            if odd:
                notes[place].append(f"{size} voxels {name}; the median is {np.median(sizes):g}")


def _unusual_planes(checked: Sequence[CheckedCase], notes: dict[int, list[str]]) -> None:
    planes = {place: plane_of(entry.header) for place, entry in enumerate(checked) if entry.header and entry.header.kind == "DICOM"}
    if len(planes) < MIN_CASES:
        return
    usual, count = Counter(planes.values()).most_common(1)[0]
    if count >= USUAL * len(planes):
        for place, plane in planes.items():
            if plane != usual:
                notes[place].append(f"{plane} slices; most are {usual}")


def _unusual_labels(checked: Sequence[CheckedCase], notes: dict[int, list[str]]) -> None:
    masked = [place for place, entry in enumerate(checked) if entry.labels]
    cases = Counter(label for place in masked for label in checked[place].labels)
    if len(masked) < MIN_CASES:
        return
    for place in masked:
        labels = checked[place].labels
        if set(labels) == {0}:
            continue  # said already
        lacking = [label for label, count in sorted(cases.items()) if count >= USUAL * len(masked) and label not in labels]
        rare = [label for label in labels if cases[label] <= max(1, 0.02 * len(masked))]
        notes[place] += [f"lacks label {label}, which {cases[label]} of {len(masked)} masks have" for label in lacking]
        notes[place] += [f"holds label {label}, which {cases[label]} of {len(masked)} masks have" for label in rare]


def same_grid_places(checked: Sequence[CheckedCase]) -> set[int]:
    """Return the places of the cases that share shape and position in the patient with another: the only likely repetitions.

    Copies of a scan agree in these, whatever their format; scans of two patients hardly ever do.
    """
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place, entry in enumerate(checked):
        if entry.header is not None:
            grid = entry.header.source.oriented(RAS)
            groups[(grid.shape, *np.round(grid.affine[:3], 2).ravel().tolist())].append(place)
    return {place for members in groups.values() if len(members) > 1 for place in members}


def repeated_images(checked: Sequence[CheckedCase]) -> list[str]:
    """Describe each set of rows whose images hold the same values."""
    groups: dict[str, list[CheckedCase]] = defaultdict(list)
    for entry in checked:
        if entry.digest:
            groups[entry.digest].append(entry)
    found = []
    for members in groups.values():
        if len(members) > 1:
            patients, folds = sorted({e.case.patient for e in members}), sorted({e.case.fold for e in members})
            where = f"patient{'s' * (len(patients) > 1)} {', '.join(patients[:5])}; fold{'s' * (len(folds) > 1)} {', '.join(folds)}"
            found.append(f"{rows_in_words([e.case.row for e in members], shown=8)} hold the same image ({where}).")
    return found


def torn_patients(checked: Sequence[CheckedCase]) -> list[str]:
    """Describe each patient whose rows are in more than one fold."""
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for entry in checked:
        rows[entry.case.patient][entry.case.fold].append(entry.case.row)
    return [
        f"Patient {patient} is in "
        + " and in ".join(f"fold {fold} ({rows_in_words(numbers, shown=5)})" for fold, numbers in sorted(folds.items()))
        + "."
        for patient, folds in rows.items()
        if len(folds) > 1
    ]

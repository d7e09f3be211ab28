"""Which classified cases are explained, and how the report shows where the network looked in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.classified_cases import AnyTarget, ClassifiedCase, ContinuousTarget, Target
from fuse_examples.imaging.oai_example.evaluation.overlay import most_telling_index
from fuse_examples.imaging.oai_example.evaluation.painting import painted_map
from fuse_examples.imaging.oai_example.evaluation.plain_words import DIRECTIONS, SCROLLING
from fuse_examples.imaging.oai_example.evaluation.report import Block, Paragraph, Row, Section, Subsection
from fuse_examples.imaging.oai_example.evaluation.slices import LayerOfSlices, stack_of, stacking_plane
from fuse_examples.imaging.oai_example.geometry.volume import Volume

STACK_BYTES = 6_500_000
"""Room for all slices in the page; a case has its share of it."""
METHODS = {
    "gradcam": "Grad-CAM (Selvaraju et al. 2017) on the backbone's deepest feature map: the features that raise the answer, and where they "
    "are. A cell of that map is {cell} mm long, and the map is no finer than that.",
    "occlusion": "Occlusion (Zeiler and Fergus 2014): boxes of the scan were covered with its mean, and the map shows where that took most "
    "away from the answer. The middles of the boxes are {cell} mm apart.",
}
WARNING = (
    "The map shows what the network used, not where disease is. Bright is most within each case; brightness cannot be compared between "
    "cases."
)


@dataclass(frozen=True)
class ExplainedCase:
    """A case and the map of what spoke for its prediction.

    Attributes:
        case: as it was classified.
        title: what was predicted and what was true, in words.
        scan: the image, in RAS order.
        values: (D, H, W) the map, in RAS order; what is above 0 speaks for the prediction.
        cell_mm: length of the map's cells along the scan's axes, in mm.
    """

    case: ClassifiedCase
    title: str
    scan: Volume
    values: NDArray[np.float32]
    cell_mm: tuple[float, float, float]


def cases_to_explain(cases: Sequence[ClassifiedCase], target: AnyTarget, count: int) -> list[tuple[str, ClassifiedCase]]:
    """Choose cases whose truth is known, each with what is to be said of it.

    Half of them are the surest mistakes (of numbers the largest errors), the others the surest right answers, of each class in turn (of
    numbers the smallest errors); where there are fewer mistakes, there are more right answers.
    """
    known = [case for case in cases if case.truth[target.name] is not None]
    wrong, right = _numbers(known, target) if isinstance(target, ContinuousTarget) else _classes(known, target)
    mistakes = wrong[: max(count // 2, count - len(right))]
    return [*mistakes, *right[: count - len(mistakes)]]


def called_class(case: ClassifiedCase, target: Target) -> int:
    """Return the index of the class that was predicted."""
    if target.name in case.called:
        return target.classes.index(case.called[target.name])
    return int(target.decide(np.array([case.probabilities[target.name]], dtype=np.float64))[0])


Ranked = tuple[list[tuple[str, ClassifiedCase]], list[tuple[str, ClassifiedCase]]]


def _classes(cases: Sequence[ClassifiedCase], target: Target) -> Ranked:
    """Mistakes, the surest first, and right answers, the surest of each class first."""
    wrong: list[tuple[float, str, ClassifiedCase]] = []
    right: dict[int, list[tuple[float, str, ClassifiedCase]]] = {}
    for case in cases:
        called = called_class(case, target)
        sureness, truth = float(case.probabilities[target.name][called]), case.truth[target.name]
        text = f"{target.classes[called]} with a probability of {sureness:.2f}"
        if truth == target.classes[called]:
            right.setdefault(called, []).append((-sureness, f"Right: {text}", case))
        else:
            wrong.append((-sureness, f"Mistake: {text}, in truth {truth}", case))
    by_class = [sorted(found, key=lambda one: (one[0], one[2].name)) for _, found in sorted(right.items())]
    in_turn = [found[place] for place in range(max(map(len, by_class), default=0)) for found in by_class if place < len(found)]
    mistakes = sorted(wrong, key=lambda one: (one[0], one[2].name))
    return [(text, case) for _, text, case in mistakes], [(text, case) for _, text, case in in_turn]


def _numbers(cases: Sequence[ClassifiedCase], target: ContinuousTarget) -> Ranked:
    """The halves of the larger and of the smaller errors, the largest and the smallest first."""
    errors = sorted((abs(case.values[target.name] - float(case.truth[target.name] or 0)), case.name, case) for case in cases)
    told = [(f"{case.values[target.name]:.4g}, in truth {case.truth[target.name]}", case) for _, _, case in errors]
    middle = len(told) // 2
    large = [(f"Large error: {text}", case) for text, case in reversed(told[middle:])]
    return large, [(f"Small error: {text}", case) for text, case in told[:middle]]


def explanation_section(target: AnyTarget, method: str, explained: Sequence[ExplainedCase], share: float) -> list[Section]:
    """Return the section that shows where the network looked; none where nothing was explained.

    Args:
        target: what was predicted.
        method: a key of `METHODS`.
        explained: the cases.
        share: of the page's room for slices.
    """
    if not explained:
        return []
    answer = "the class that was called" if isinstance(target, Target) and not target.ordinal else "a higher value"
    cells = " x ".join(f"{length:.0f}" for length in explained[0].cell_mm)
    blocks: list[Block] = [
        Paragraph(f"What in the scan spoke for {answer}: the brighter, the more. {WARNING}"),
        Paragraph(f"{METHODS[method].format(cell=cells)} {DIRECTIONS} {SCROLLING}", "note"),
    ]
    room = round(STACK_BYTES * share / len(explained))
    blocks.append(Row([Subsection(f"{one.case.name}: {one.title}", [_stack(one, room)]) for one in explained]))
    return [Section(f"Where the network looked: {target.name}", blocks)]


def _stack(one: ExplainedCase, most_bytes: int) -> Block:
    plane = stacking_plane(one.scan)
    highest = float(one.values.max())
    relative = np.clip(one.values / highest, 0, 1) if highest > 0 else np.zeros_like(one.values)
    start = int(np.argmax(relative.max(axis=tuple(axis for axis in range(3) if axis != plane.axis))))
    if highest <= 0:
        start = most_telling_index(np.zeros(one.values.shape, dtype=np.uint8), plane.axis)
    caption = f"Patient {one.case.patient}, fold {one.case.fold}, line {one.case.row} of the case table."
    caption += "" if highest > 0 else " Nothing in this scan spoke for the answer."
    return stack_of(one.case.name, one.scan, [LayerOfSlices("map", painted_map(relative, plane))], start, most_bytes, plane, caption)

"""The same metrics for parts of the test cases: by sex, by site, by whatever column `report_by` names."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.report import Section, Table
from fuse_examples.imaging.oai_example.evaluation.run_facts import interval_text, three_digits

EMPTY = "(empty)"
"""The group of the cases whose cell is empty."""
MOST_GROUPS = 20


class GroupedCase(Protocol):
    """A scored case, of whichever task."""

    @property
    def patient(self) -> str:
        """The patient it belongs to."""

    @property
    def groups(self) -> Mapping[str, str | None]:
        """Column of `report_by` -> value."""


Case = TypeVar("Case", bound=GroupedCase)


def subgroup_metrics(cases: Sequence[Case], metrics: Callable[[list[Case]], dict[str, Any]]) -> dict[str, Any]:
    """Return column -> value -> number of cases and patients, and `metrics` of the cases with that value."""
    found: dict[str, Any] = {}
    for column in cases[0].groups if cases else ():
        found[column] = {
            value: {"n_cases": len(members), "n_patients": len({case.patient for case in members}), "metrics": metrics(members)}
            for value, members in group_members(cases, column).items()
        }
    return found


def group_members(cases: Sequence[Case], column: str) -> dict[str, list[Case]]:
    """Return the cases of each value of a column, values in sorted order.

    Raises:
        DataError: so many values that the column is no grouping.
    """
    members: dict[str, list[Case]] = {}
    for case in cases:
        members.setdefault(case.groups[column] or EMPTY, []).append(case)
    if len(members) > MOST_GROUPS:
        some = ", ".join(sorted(members)[:5])
        raise DataError(
            f"report_by: {column} has {len(members)} different values in the test cases ({some}, ...), and a report by it would say "
            f"little. Name columns of at most {MOST_GROUPS} values; make groups of a number, such as an age, in a column of its own."
        )
    return dict(sorted(members.items()))


def subgroup_section(title: str, subgroups: Mapping[str, Any], chosen: Mapping[str, str], at: Sequence[str] = ()) -> list[Section]:
    """Return a section with a table for each column of `report_by`; none without subgroups.

    Args:
        title: of the section.
        subgroups: from `subgroup_metrics`.
        chosen: metric in metrics.json -> its heading.
        at: keys that lead from a metric to the entry that is shown.
    """
    if not subgroups:
        return []
    return [Section(title, [_table(column, values, chosen, at) for column, values in subgroups.items()])]


def _table(column: str, values: Mapping[str, Any], chosen: Mapping[str, str], at: Sequence[str]) -> Table:
    rows = []
    for value, group in values.items():
        entries = [_entry(group["metrics"], name, at) for name in chosen]
        cells = [f"{three_digits(entry['value'])} ({interval_text(entry)})" for entry in entries]
        rows.append([value, str(group["n_cases"]), str(group["n_patients"]), *cells])
    return Table([column, "cases", "patients", *chosen.values()], rows)


def _entry(metrics: Mapping[str, Any], name: str, at: Sequence[str]) -> Mapping[str, Any]:
    found: Any = metrics[name]
    for key in at:
        found = found[key]
    entry: Mapping[str, Any] = found
    return entry

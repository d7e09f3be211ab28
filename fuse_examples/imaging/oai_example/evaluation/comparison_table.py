"""The comparison of runs as people and programs read it: a table on the screen, compare.json and compare.csv."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.evaluation.comparison import Comparison, compare_runs, read_tested_run
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_json, write_table

RULES = {
    "difference": "second run minus first, both scored on the same resamples of patients",
    "interval": "percentile bootstrap over patients, stratified by class where one is rare; at least 10 patients in each class",
    "p_value": "two-sided, (1 + count) / (B + 1): count of the B defined resamples whose difference lies at least as far from the "
    "observed one as the observed one from 0",
    "p_holm": "p_value corrected by Holm for all lines of the table",
}


def compare_and_write(runs: Sequence[Path], metrics: Sequence[str], n_resamples: int | None, seed: int | None, output: Path) -> None:
    """Compare runs, print the table and write both files into `output`. Raises UserError."""
    tested = [read_tested_run(run) for run in runs]
    settings = tested[0].settings
    if n_resamples is not None and n_resamples < 1:
        raise UserError(f"--resamples is {n_resamples}; give at least 1.")
    settings = replace(settings, n_resamples=n_resamples or settings.n_resamples, seed=settings.seed if seed is None else seed)
    lines = compare_runs(tested, metrics, settings)
    entries = [line.as_dict() for line in lines]
    n_cases = len(tested[0].truth)
    patients = len({patient for patient, _ in tested[0].truth})
    facts = {"runs": [run.name for run in tested], "n_cases": n_cases, "n_patients": patients}
    write_json(output / "compare.json", facts | {"comparisons": entries, "bootstrap": settings.as_dict(), "rules": RULES})
    header = list(dict.fromkeys(key for entry in entries for key in entry))
    write_table(output / "compare.csv", header, ([entry.get(key) for key in header] for entry in entries))
    print(f"{n_cases} cases of {patients} patients, {settings.n_resamples} resamples of patients\n")
    print(table(lines, settings.level))
    for note in dict.fromkeys(f"{line.metric}: {line.difference.estimate.note}" for line in lines if line.difference.estimate.note):
        print(note)
    print(f"\n{output / 'compare.json'} and {output / 'compare.csv'} written.")


def table(lines: Sequence[Comparison], level: float = 0.95) -> str:
    """Lay out the comparisons, one a line, the columns under each other."""
    rows = [["metric", "first", "second", "value", "value", "difference", f"{100 * level:g} % interval", "p", "p (Holm)"]]
    for line in lines:
        found = line.difference.estimate
        interval = "–" if found.low is None or found.high is None else f"{found.low:+.3f} to {found.high:+.3f}"
        values = [_digits(value, "{:.3f}") for value in line.values]
        chances = [_digits(p, "{:.4f}") for p in (line.difference.p_value, line.holm)]
        rows.append([line.metric, line.first, line.second, *values, _digits(found.value, "{:+.3f}"), interval, *chances])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _digits(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)

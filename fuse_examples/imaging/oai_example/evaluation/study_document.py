"""A study in words and tables on the screen and in a Markdown document, from its cells alone."""

import re
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.figures import save_png
from fuse_examples.imaging.oai_example.evaluation.report import Table
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.study_cells import read_cells
from fuse_examples.imaging.oai_example.evaluation.study_figures import score_figure
from fuse_examples.imaging.oai_example.evaluation.study_report import (
    difference_table,
    saved_table,
    score_table,
    speed_table,
    write_study_report,
)
from fuse_examples.imaging.oai_example.evaluation.study_sentences import sentences
from fuse_examples.imaging.oai_example.evaluation.study_statistics import StudyAnswer, analyse
from fuse_examples.imaging.oai_example.evaluation.study_table import write_study_table
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_whole


def write_again(cells: Sequence[Path], output: Path | None, document: Path | None, n_resamples: int) -> None:
    """Read cells and write the page and table into `output`, and the tables into `document`. Raises DataError."""
    answer = analyse(read_cells(cells), Bootstrap(n_resamples=n_resamples))
    if output is not None:
        write_study_table(answer.results, output)
        print(f"report: {write_study_report(answer, output)}")
    if document is not None:
        renew(document, cells[0], answer)
    print_answer(answer)


def print_answer(answer: StudyAnswer) -> None:
    """Print the sentences and the tables."""
    print("\n".join(["", *sentences(answer)]))
    for table in _tables(answer):
        rows = [list(table.header), *map(list, table.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
        print("\n" + "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows))


def renew(document: Path, cells: Path, answer: StudyAnswer) -> None:
    """Put the study's tables in the place of those in a Markdown file, and its figure beside the cells.

    Raises:
        DataError: the file has no place for them.
    """
    name = cells.stem
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{document}: cannot be read ({error.strerror or error}).") from error
    found = re.search(rf"<!-- study {re.escape(name)} -->\n(.*?)<!-- end -->", text, re.S)
    if found is None:
        raise DataError(f"{document}: has no lines '<!-- study {name} -->' and '<!-- end -->', between which the tables go. Add them.")
    save_png(score_figure(answer), cells.with_suffix(".png"))
    write_whole(document, text[: found.start(1)] + as_markdown(answer) + text[found.end(1) :])


def as_markdown(answer: StudyAnswer) -> str:
    """The sentences as a list, and every table."""
    parts = ["\n".join(f"* {sentence}" for sentence in sentences(answer)), *map(_markdown, _tables(answer))]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _tables(answer: StudyAnswer) -> list[Table]:
    made = [score_table(answer), difference_table(answer), speed_table(answer), saved_table(answer)]
    return [table for table in made if table.rows]


def _markdown(table: Table) -> str:
    lines = [list(table.header), ["---"] * len(table.header), *map(list, table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

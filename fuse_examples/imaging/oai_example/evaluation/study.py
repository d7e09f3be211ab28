"""Make a study's page, table and figures again from the scores that its runs left, without the runs.

    python -m fuse_examples.imaging.oai_example.evaluation.study CELLS [CELLS ...] [--output FOLDER] [--document FILE.md]

CELLS is a cells.jsonl of a study; the cells of several files of one study are put together. With --document the tables between the lines
`<!-- study NAME -->` and `<!-- end -->` of a Markdown file, NAME being the first file's without its ending, are made anew, and the figure
beside the first file is too.
"""

import argparse
import sys
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry


def main() -> None:
    """Read the cells, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m fuse_examples.imaging.oai_example.evaluation.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("cells", nargs="+", type=Path, metavar="CELLS", help="cells.jsonl of a study")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where study.html, study.csv and the figures go")
    parser.add_argument("--document", type=Path, metavar="FILE", help="Markdown file with the tables of the study")
    parser.add_argument("--resamples", type=int, default=2000, metavar="B", help="bootstrap resamples; 2000 by default")
    words = parser.parse_args()
    if words.resamples < 1:
        parser.error(f"--resamples is {words.resamples}; give at least 1")
    if words.output is None and words.document is None:
        parser.error("give --output, --document or both")
    from fuse_examples.imaging.oai_example.evaluation.study_document import write_again  # only now: --help stays quick

    write_again(words.cells, words.output, words.document, words.resamples)


if __name__ == "__main__":
    sys.exit(run_entry(main))

"""Compare tested runs on the same patients: paired differences with intervals and p-values, corrected for their number.

    python -m fuse_examples.imaging.oai_example.evaluation.compare RUN_A RUN_B [RUN_C ...] [--metrics auc brier] [--output FOLDER]

A run is the folder of an experiment that was tested, or a folder with its predictions.csv. Each further run is compared with the first.
"""

import argparse
import sys
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry


def main() -> None:
    """Read the runs, print the table, and write compare.json and compare.csv."""
    parser = argparse.ArgumentParser(prog="python -m fuse_examples.imaging.oai_example.evaluation.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a tested experiment; the first is compared with")
    metrics = "metrics, such as auc, dice or 'dice of femur'; by default AUC of each target, or Dice; the p-values are corrected for all"
    parser.add_argument("--metrics", nargs="+", default=[], metavar="METRIC", help=metrics)
    parser.add_argument("--resamples", type=int, metavar="B", help="bootstrap resamples; by default as the first run's metrics.json says")
    parser.add_argument("--seed", type=int, help="seed of the resamples; by default likewise")
    parser.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="where the two files go; the working directory")
    words = parser.parse_args()
    if len(words.runs) < 2:
        parser.error("give at least two runs")
    from fuse_examples.imaging.oai_example.evaluation.comparison_table import compare_and_write  # only now: --help stays quick

    compare_and_write(words.runs, words.metrics, words.resamples, words.seed, words.output)


if __name__ == "__main__":
    sys.exit(run_entry(main))

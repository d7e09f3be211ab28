"""Turn an image release of the Osteoarthritis Initiative and its clinical tables into CSV files.

    python -m fuse_examples.imaging.oai_example.prepare.oai ROOT [--tables DIR] [--visits V00 ...] [--cohorts Progression ...]

The series come from contents.csv or image03.txt below ROOT (or --list), else from the folders. Of repeated scans the later is kept.
Writes self_supervised.csv, with --tables also classification.csv (V00COHORT, sex, KL), and left_out.csv with what has no row, and why.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.prepare.command_line import add_fold_options, add_output_options, exit_code_of, parser_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 2 for a mistake of the user's."""
    parser = parser_of("oai", "Turn an image release of the Osteoarthritis Initiative and its clinical tables into CSV files.")
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the download: above, or of, releases such as 0.E.1")
    parser.add_argument(
        "--list", type=Path, nargs="+", default=[], metavar="FILE", help="contents.csv or image03.txt (default: found in ROOT)"
    )
    parser.add_argument(
        "--tables", type=Path, metavar="DIR", help="folder with Enrollees, AllClinical00 and kXR_SQ_BU00 (or other visits')"
    )
    parser.add_argument("--visits", nargs="+", default=["V00"], metavar="V", help="V00 (baseline), V01 (12 months), ... or 00m, 12m, ...")
    parser.add_argument("--description", nargs="+", default=["SAG_3D_DESS*"], metavar="PATTERN", help="series descriptions to take")
    parser.add_argument("--cohorts", nargs="+", default=["1", "2", "3"], metavar="C", help="cohorts in classification.csv, by name or code")
    parser.add_argument("--read-projects", nargs="+", default=["15"], metavar="N", help="READPRJ to take KL grades from, preferred first")
    parser.add_argument("--unpack", action="store_true", help="unpack series that are still .tar.gz files, beside them")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="series read at the same time")
    add_fold_options(parser)
    add_output_options(parser, "folder for the CSV files (default: data)")
    options = parser.parse_args(argv)

    def work() -> None:
        from fuse_examples.imaging.oai_example.prepare.oai_release.clinical import chosen_cohorts
        from fuse_examples.imaging.oai_example.prepare.oai_release.release_tables import ReleaseOptions, write_release_tables
        from fuse_examples.imaging.oai_example.prepare.oai_release.selection import SelectionOptions, visit_names

        selection = SelectionOptions(visit_names(options.visits), tuple(options.description), options.unpack, options.workers)
        cohorts, projects = chosen_cohorts(options.cohorts), tuple(options.read_projects)
        chosen = ReleaseOptions(selection, options.tables, cohorts, projects, options.folds, options.seed, options.overwrite)
        print(write_release_tables(options.root, options.list, Path(options.output or "data"), chosen))

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())

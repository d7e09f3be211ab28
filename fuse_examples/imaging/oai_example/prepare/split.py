"""Give a table of cases folds that no patient crosses.

    python -m fuse_examples.imaging.oai_example.prepare.split CSV [--folds K | --shares NAME=SHARE ...] [--stratify COLUMN ...]

All rows of a patient come into one fold, and so do rows that agree in a further `--group` column (a family, a scanner session).
The table's other columns stay as they are; relative paths are rewritten where the output lies in another folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.prepare.command_line import add_fold_options, add_output_options, exit_code_of, parser_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 2 for a mistake of the user's."""
    parser = parser_of("split", "Give a table of cases folds that no patient crosses, with classes spread evenly.")
    parser.add_argument("csv", type=Path, metavar="CSV", help="table with a column PatientID")
    add_fold_options(parser)
    parser.add_argument("--shares", nargs="+", metavar="NAME=SHARE", help="named folds instead, such as train=0.7 val=0.15 test=0.15")
    parser.add_argument("--stratify", nargs="+", default=[], metavar="COLUMN", help="spread the values of these columns evenly")
    parser.add_argument("--group", nargs="+", default=[], metavar="COLUMN", help="keep rows that agree in these columns together, too")
    parser.add_argument("--channels", nargs="+", default=[], metavar="COLUMN", help="columns of paths besides path, img_path and seg_path")
    add_output_options(parser, "the new table (default: CSV's name with _folds, beside it)")
    options = parser.parse_args(argv)

    def work() -> None:
        from fuse_examples.imaging.oai_example.prepare.folds.assignment import equal_shares
        from fuse_examples.imaging.oai_example.prepare.folds.table_split import parse_shares, split_table

        output = Path(options.output) if options.output else options.csv.with_name(f"{options.csv.stem}_folds.csv")
        shares = parse_shares(options.shares) if options.shares else equal_shares(options.folds)
        chosen = {"stratify": options.stratify, "groups": options.group, "channels": options.channels, "seed": options.seed}
        print(split_table(options.csv, output, shares, **chosen, overwrite=options.overwrite))
        print(f"\nWrote {output}. Next:\n  python -m fuse_examples.imaging.oai_example.prepare.check {output}")

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())

"""Turn iMorphics' knee contours, or the IWOAI challenge's arrays, into NIfTI masks on the grids of their DESS series.

    python -m fuse_examples.imaging.oai_example.prepare.imorphics CONTOURS --series data/self_supervised.csv [--output DIR]

CONTOURS is the folder of .mat or .txt outlines (<participant>/<visit>/...), or of .im and .seg files. The table of series is
`prepare.oai`'s, with the visits V00 and V01. Writes masks, segmentation.csv, and left_out.csv with a reason for each file without a mask.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.prepare.command_line import add_fold_options, add_output_options, exit_code_of, parser_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 2 for a mistake of the user's."""
    parser = parser_of("imorphics", "Turn iMorphics' knee contours, or IWOAI's arrays, into NIfTI masks on the grids of their series.")
    parser.add_argument("folder", type=Path, metavar="CONTOURS", help="folder of .mat or .txt outlines, or of .im and .seg files")
    parser.add_argument("--series", type=Path, metavar="CSV", help="prepare.oai's self_supervised.csv with visits V00 and V01")
    orders = ["numbered", "reversed", "by_anatomy"]
    text = "slice k is the k-th by instance number, or from the end, or whichever puts lateral structures laterally"
    parser.add_argument("--slice-order", choices=orders, default="numbered", help=text)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="knees at the same time")
    add_fold_options(parser)
    add_output_options(parser, "folder for masks and segmentation.csv (default: data)")
    options = parser.parse_args(argv)

    def work() -> None:
        from fuse_examples.imaging.oai_example.errors import DataError
        from fuse_examples.imaging.oai_example.prepare.knee_contours.contour_tables import ContourOptions, write_contour_tables
        from fuse_examples.imaging.oai_example.prepare.knee_contours.iwoai import seg_files, write_iwoai_tables

        output = Path(options.output or "data")
        chosen = ContourOptions(options.slice_order, options.folds, options.seed, options.workers, options.overwrite)
        if seg_files(options.folder):
            print(write_iwoai_tables(options.folder, options.series, output, chosen))
        elif options.series is None:
            raise DataError("--series is missing: outlines need the grid of their series. Write the table with prepare.oai first.")
        else:
            print(write_contour_tables(options.folder, options.series, output, chosen))

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())

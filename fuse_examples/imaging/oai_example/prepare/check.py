"""Check a table of cases before training: what cannot be used, what is odd, and how the scans look.

    python -m fuse_examples.imaging.oai_example.prepare.check CSV [--full] [--channels COLUMN ...] [--write-usable OUT.csv] [--output DIR]

Reads the headers of every scan, every mask in full, and the images that may be copies of others or that are shown; with --full every image.
Writes check.csv (a row per case) and contact_sheet.png. Ends with exit code 2 if a row cannot be used.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.prepare.command_line import add_output_options, add_reading_options, exit_code_of, parser_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 2 if a row cannot be used or for another mistake of the user's."""
    parser = parser_of("check", "Check a table of cases before training. Exit code 2 if a row cannot be used.")
    parser.add_argument("csv", type=Path, metavar="CSV", help="table of any of the three stages")
    parser.add_argument("--full", action="store_true", help="read every image too, not only headers and masks")
    parser.add_argument("--write-usable", type=Path, metavar="OUT.csv", help="write the rows that can be used to this table")
    parser.add_argument("--pictures", type=int, default=48, metavar="N", help="cases on the contact sheet; 0 for none")
    add_reading_options(parser)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="scans read at the same time")
    add_output_options(parser, "folder for check.csv and contact_sheet.png (default: CSV's name with _check, in the working directory)")
    options = parser.parse_args(argv)

    def work() -> None:
        from fuse_examples.imaging.oai_example.data.problem_lists import shortened
        from fuse_examples.imaging.oai_example.data.reading import Reading, SeriesChoice
        from fuse_examples.imaging.oai_example.errors import DataError
        from fuse_examples.imaging.oai_example.prepare.checking import results
        from fuse_examples.imaging.oai_example.prepare.checking.table_check import CheckOptions, check_table
        from fuse_examples.imaging.oai_example.prepare.tables.text_table import refuse_existing

        reading = Reading(SeriesChoice(options.series, options.echo, options.largest), options.tolerate_uneven_spacing)
        folder = Path(options.output or f"{options.csv.stem}_check")
        usable = [options.write_usable] if options.write_usable else []
        refuse_existing([folder / "check.csv", folder / "contact_sheet.png", *usable], options.overwrite)
        wanted = CheckOptions(options.full, options.pictures, options.workers, options.mask_affine, reading, tuple(options.channels))
        checked = check_table(options.csv, wanted)
        written = results.write_results(checked, folder)
        print(f"{results.summary(checked)}\n\nWrote {' and '.join(map(str, written))}.")
        for path in usable:
            print(f"Wrote {path} with the {results.write_usable(checked, path)} rows that can be used.")
        if checked.unusable:
            count = f"{len(checked.unusable)} of {len(checked.cases)} rows cannot be used. Correct them or pass --write-usable OUT.csv."
            raise DataError([*shortened(results.problem_list(checked)), count])
        print(f"Next:\n  {results.next_command(checked)}")

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())

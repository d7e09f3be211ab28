"""Turn a task of the Medical Segmentation Decathlon into CSV files.

    python -m fuse_examples.imaging.oai_example.prepare.decathlon FOLDER_OR_ARCHIVE_OR_URL [--output DIR] [--folds K]

An archive is unpacked, an address downloaded first (resumed if it was interrupted), into the output folder. Writes segmentation.csv and
self_supervised.csv there; the test images, which have no masks, are in the fold "unlabelled". A 4D image is cut into a file per channel.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.prepare.command_line import add_fold_options, add_output_options, exit_code_of, parser_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 2 for a mistake of the user's."""
    parser = parser_of("decathlon", "Turn a task of the Medical Segmentation Decathlon into CSV files.")
    parser.add_argument("source", metavar="FOLDER|ARCHIVE|URL", help="a task's folder, its .tar archive, or where to download that")
    parser.add_argument("--checksum", metavar="HEX", help="MD5 or SHA-256 that the downloaded file must have")
    parser.add_argument("--patient", metavar="REGEX", help="its first group is the patient in a case's name; default: a case is a patient")
    add_fold_options(parser)
    add_output_options(parser, "folder for the CSV files, and for what is downloaded or cut (default: the task's folder, or here)")
    options = parser.parse_args(argv)

    def work() -> None:
        from fuse_examples.imaging.oai_example.prepare.archives.case_list import FoldChoice, write_case_tables
        from fuse_examples.imaging.oai_example.prepare.archives.dataset_json import read_description
        from fuse_examples.imaging.oai_example.prepare.archives.decathlon import listed_cases, with_channels_apart
        from fuse_examples.imaging.oai_example.prepare.archives.obtaining import obtain

        folder = obtain(options.source, Path(options.output or "."), checksum=options.checksum)
        output = Path(options.output) if options.output else folder
        description = read_description(folder)
        cases = with_channels_apart(listed_cases(folder, description), len(description.channels), output / "channels")
        choice = FoldChoice(options.folds, options.seed, options.patient)
        print(write_case_tables(output, cases, description, choice, overwrite=options.overwrite))

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())

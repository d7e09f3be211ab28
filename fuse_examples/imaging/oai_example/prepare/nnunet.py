"""Turn an nnU-Net raw data set into CSV files.

    python -m fuse_examples.imaging.oai_example.prepare.nnunet FOLDER [--splits splits_final.json] [--output DIR] [--folds K]

FOLDER holds imagesTr, labelsTr and dataset.json, of nnU-Net 1 or 2. Cases of imagesTs are in the fold "test" where labelsTs has their
masks, else "unlabelled". The first channel is in the column path or img_path, each further channel in a column of its name.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.prepare.command_line import add_fold_options, add_output_options, exit_code_of, parser_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 2 for a mistake of the user's."""
    parser = parser_of("nnunet", "Turn an nnU-Net raw data set into CSV files.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="data set with imagesTr, labelsTr and dataset.json")
    parser.add_argument("--splits", type=Path, metavar="FILE", help="nnU-Net's splits_final.json; fold N is what its split N validates on")
    parser.add_argument("--patient", metavar="REGEX", help="its first group is the patient in a case's name; default: a case is a patient")
    add_fold_options(parser)
    add_output_options(parser, "folder for the CSV files (default: FOLDER)")
    options = parser.parse_args(argv)

    def work() -> None:
        from fuse_examples.imaging.oai_example.prepare.archives.case_list import FoldChoice, write_case_tables
        from fuse_examples.imaging.oai_example.prepare.archives.dataset_json import read_description
        from fuse_examples.imaging.oai_example.prepare.archives.nnunet import listed_cases, with_published_folds

        description = read_description(options.folder)
        cases = listed_cases(options.folder, description)
        if options.splits:
            cases = with_published_folds(cases, options.splits)
        choice = FoldChoice(options.folds, options.seed, options.patient)
        print(write_case_tables(Path(options.output or options.folder), cases, description, choice, overwrite=options.overwrite))

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())

"""Turn any tree of DICOM files into a CSV file with a row per volume.

    python -m fuse_examples.imaging.oai_example.prepare.dicom ROOT [--description PATTERN ...] [--link DIR | --copy DIR]

Files are recognised by content. A folder that holds one volume is named as it is. Volumes that share a folder, and series spread over
several, need folders of their own: --link makes these with links to the files, --copy with copies; without either they are refused.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.prepare.command_line import add_fold_options, add_output_options, exit_code_of, parser_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 2 for a mistake of the user's."""
    parser = parser_of("dicom", "Turn any tree of DICOM files into a CSV file with a row per volume.")
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder whose subfolders hold DICOM files, in any order")
    parser.add_argument("--description", nargs="+", default=[], metavar="PATTERN", help="only these series, such as 'SAG_3D_DESS*'")
    layout = parser.add_mutually_exclusive_group()
    layout.add_argument("--link", type=Path, metavar="DIR", help="give volumes that share a folder one of their own here, with links")
    layout.add_argument("--copy", type=Path, metavar="DIR", help="the same with copies of the files")
    parser.add_argument("--patient", metavar="REGEX", help="its first group is the patient in the path below ROOT; default: PatientID")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="folders read at the same time")
    add_fold_options(parser)
    add_output_options(parser, "the table (default: dicom.csv in the working directory)")
    options = parser.parse_args(argv)

    def work() -> None:
        from fuse_examples.imaging.oai_example.prepare.dicom_tree.layout import Layout
        from fuse_examples.imaging.oai_example.prepare.dicom_tree.tree_table import TreeOptions, write_tree_table

        own = Layout(options.link, "link") if options.link else Layout(options.copy, "copy") if options.copy else None
        spread = (options.patient, options.folds, options.seed)
        chosen = TreeOptions(tuple(options.description), own, *spread, options.workers, options.overwrite)
        print(write_tree_table(options.root, Path(options.output or "dicom.csv"), chosen))

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())

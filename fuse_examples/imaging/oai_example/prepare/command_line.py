"""What the preparing commands have in common: their parser, how they end, and the table that they print."""

import argparse
import sys
from collections.abc import Callable, Sequence

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption


def parser_of(name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Return the parser of `python -m ...prepare.<name>`; `--help` shows every default."""
    return argparse.ArgumentParser(
        prog=f"python -m fuse_examples.imaging.oai_example.prepare.{name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def add_fold_options(parser: argparse.ArgumentParser) -> None:
    """Add `--folds` and `--seed`, with which patients are spread over folds."""
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="spread the patients over folds 0 to K-1")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same folds")


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add what the configuration says of reading scans, under its names."""
    parser.add_argument("--mask-affine", choices=["strict", "from_image"], default="strict", help="as the configuration's mask_affine")
    parser.add_argument(
        "--channels", nargs="+", default=[], metavar="COLUMN", help="as the configuration's key: image columns; the first one is shown"
    )
    parser.add_argument("--series", metavar="PATTERN", help="series.description: which volume of a DICOM folder that holds several")
    parser.add_argument("--echo", type=int, metavar="N", help="series.echo")
    parser.add_argument("--largest", action="store_true", help="series.largest")
    parser.add_argument("--tolerate-uneven-spacing", action="store_true", help="as the configuration's key")


def add_output_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--output` and `--overwrite`."""
    parser.add_argument("--output", type=str, default=None, metavar="PATH", help=what)
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")


def exit_code_of(work: Callable[[], int | None]) -> int:
    """Do the work; return its exit code: 2 for what the user can mend (said on standard error), 130 for Ctrl-C, 143 for SIGTERM."""
    try:
        with Interruption():
            return work() or 0
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or 'input or output'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except Interrupted as interrupted:
        print(f"{interrupted} Files are whole or absent.", file=sys.stderr)
        return interrupted.exit_code


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return aligned columns for the terminal; numbers stand at the right, texts at the left."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(header, *cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[place], int | float) for row in rows) for place in range(len(header))]
    lines = [
        [text.rjust(w) if r else text.ljust(w) for text, w, r in zip(line, widths, right, strict=True)] for line in [[*header], *cells]
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)

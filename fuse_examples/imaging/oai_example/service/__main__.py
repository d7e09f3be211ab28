"""Serve predictions to other programs by the Model Context Protocol, on standard input and output.

    python -m fuse_examples.imaging.oai_example.service --root FOLDER --models FOLDER

Tools: list_models, check_scan, classify, segment. Paths outside FOLDER are refused, links that lead out of it too.
"""

import argparse
import sys
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m fuse_examples.imaging.oai_example.service", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--root", type=Path, required=True, metavar="FOLDER", help="scans are read from here, results go here")
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="checkpoints (*.ckpt) in it and below are offered")
    words = parser.parse_args()
    from fuse_examples.imaging.oai_example.service.mcp_server import build_server  # only now: --help stays quick

    build_server(words.root, words.models).run("stdio")


if __name__ == "__main__":
    sys.exit(run_entry(main))

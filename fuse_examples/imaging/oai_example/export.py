"""Export a trained network for other programs, each file checked against the checkpoint before it is kept.

    python -m fuse_examples.imaging.oai_example.export CHECKPOINT [--output FOLDER] [--size D H W] [--overwrite]

Writes backbone.safetensors, for backbones that SuPreM has suprem_<backbone>.pth in its layout, and for classifiers and segmenters an ONNX
file. CHECKPOINT is best.ckpt or last.ckpt of a run, or backbone.safetensors.
"""

import argparse
import sys
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry


def main() -> None:
    """Export what the command line names, and print what was written."""
    parser = argparse.ArgumentParser(prog="python -m fuse_examples.imaging.oai_example.export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint of a run, or backbone.safetensors")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the files go; by default `export` in the experiment's folder")
    size = "voxels of the ONNX file's input; by default those that the network was trained on"
    parser.add_argument("--size", type=int, nargs=3, metavar=("D", "H", "W"), help=size)
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    words = parser.parse_args()
    from fuse_examples.imaging.oai_example.stages.exporting import export_checkpoint  # only now: --help stays quick

    for line in export_checkpoint(words.checkpoint, words.output, words.size, overwrite=words.overwrite):
        print(line)


if __name__ == "__main__":
    sys.exit(run_entry(main))

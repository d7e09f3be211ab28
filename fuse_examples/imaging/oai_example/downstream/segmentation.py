"""Train a volume segmenter, or test one: DICOM or NIfTI pairs in, masks on each scan's own grid and honest figures out.

python fuse_examples/imaging/oai_example/downstream/segmentation.py [--config FILE] [--check] [key=value ...]
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[4]
if __name__ == "__main__":  # this checkout before any other fuse_examples, and not this folder, whose modules could shadow others
    sys.path[:] = [str(CHECKOUT), *(entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent)]

from fuse_examples.imaging.oai_example.configuration.command_line import parse_command_line, run_entry  # noqa: E402
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig  # noqa: E402

DEFAULT_YAML = CHECKOUT / "configs" / "segmentation_config.yaml"


def main() -> None:
    """Read the configuration, then train, or test where test_ckpt is set."""
    config, check = parse_command_line(SegmentationConfig, DEFAULT_YAML)
    from fuse_examples.imaging.oai_example.stages.segmentation import train_or_test  # only now: this is when torch is imported

    train_or_test(config, check=check)


if __name__ == "__main__":
    sys.exit(run_entry(main))

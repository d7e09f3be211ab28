"""Pre-train a backbone on unlabelled volumes with DINO, or test one: DICOM or NIfTI volumes in, weights for the other stages out.

python fuse_examples/imaging/oai_example/self_supervised/dino.py [--config FILE] [--check] [key=value ...]
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[4]
if __name__ == "__main__":  # this checkout before any other fuse_examples, and not this folder, whose modules could shadow others
    sys.path[:] = [str(CHECKOUT), *(entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent)]

from fuse_examples.imaging.oai_example.configuration.command_line import parse_command_line, run_entry  # noqa: E402
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig  # noqa: E402

DEFAULT_YAML = CHECKOUT / "configs" / "dino_config.yaml"


def main() -> None:
    """Read the configuration, then pre-train, or test where test_ckpt is set."""
    config, check = parse_command_line(DINOConfig, DEFAULT_YAML)
    from fuse_examples.imaging.oai_example.stages.dino import train_or_test  # only now: this is when torch is imported

    train_or_test(config, check=check)


if __name__ == "__main__":
    sys.exit(run_entry(main))

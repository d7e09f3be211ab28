"""Does pre-training help? Initialisations x numbers of labels x seeds, each an ordinary run, and one answer with intervals.

python fuse_examples/imaging/oai_example/downstream/label_efficiency.py [--config FILE] [--check] [--list] [--cell NUMBER] [key=value ...]
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[4]
if __name__ == "__main__":  # this checkout before any other fuse_examples, and not this folder, whose modules could shadow others
    sys.path[:] = [str(CHECKOUT), *(entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent)]

from fuse_examples.imaging.oai_example.configuration.command_line import parse_command_line, run_entry, take_flags  # noqa: E402
from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig  # noqa: E402

DEFAULT_YAML = CHECKOUT / "configs" / "label_efficiency_config.yaml"


def main() -> None:
    """Read the configuration, then do what is left of the study."""
    listed, number, words = take_flags(sys.argv[1:])
    config, check = parse_command_line(LabelEfficiencyConfig, DEFAULT_YAML, words)
    from fuse_examples.imaging.oai_example.stages.label_efficiency import label_efficiency  # only now: this is when torch is imported

    label_efficiency(config, check=check, listed=listed, number=number)


if __name__ == "__main__":
    sys.exit(run_entry(main))

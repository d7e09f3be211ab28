"""Predict masks or classes of scans that have no labels: DICOM or NIfTI in, masks on each scan's own grid or probabilities out.

python fuse_examples/imaging/oai_example/downstream/predict.py --checkpoint C [C ...] --input FOLDER_OR_CSV --output DIR
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[4]
if __name__ == "__main__":  # this checkout before any other fuse_examples, and not this folder, whose modules could shadow others
    sys.path[:] = [str(CHECKOUT), *(entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent)]

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry  # noqa: E402
from fuse_examples.imaging.oai_example.configuration.prediction_request import parse_request  # noqa: E402


def main() -> None:
    """Read the command line, look at the files that it names, then predict."""
    request = parse_request()
    request.check()
    from fuse_examples.imaging.oai_example.stages.prediction import predict_and_tell  # only now: this is when torch is imported

    predict_and_tell(request)


if __name__ == "__main__":
    sys.exit(run_entry(main))

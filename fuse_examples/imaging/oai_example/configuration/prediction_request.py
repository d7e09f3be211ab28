"""What a prediction is asked for: its command line, and the mistakes in it that can be seen before anything long begins."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.errors import ConfigError

DESCRIPTION = """Masks or class probabilities for scans without labels, from checkpoints of segmentation.py or classification.py.

What is done to the scans is what the checkpoint says: the same as in its tests. The output folder gets predictions.csv, prediction.json, a
picture of each case and, from a segmenter, masks as NIfTI on each scan's own grid; for DICOM series also as DICOM-SEG.
"""
RECORD = "prediction.json"
"""Written first and last into an output folder, so that what lies there is known to be a prediction's."""
PREDICTED_FILES = ("predictions.csv", "bad_cases.csv", "log.txt", "segmentations/*.nii.gz", "dicom_seg/*.dcm", "overlays/*.png")
"""What else a prediction writes, as patterns in its output folder; `overwrite` removes these and nothing else."""


@dataclass(frozen=True)
class PredictionRequest:
    """What to predict from what, and where it goes.

    Attributes:
        checkpoints: of one run, or of several whose probabilities are averaged.
        input: a DICOM folder, a tree of series and NIfTI files, a single file, or a CSV file with `path` or `img_path`.
        output: folder for the results.
        structure_codes: YAML file with the codes that structures have in DICOM-SEG objects.
        dicom_seg: whether DICOM series get a DICOM-SEG beside the NIfTI mask.
        overlays: whether a picture of each case is written.
        overwrite: whether the results of an earlier prediction in `output` may be replaced.
    """

    checkpoints: tuple[Path, ...]
    input: Path
    output: Path
    structure_codes: Path | None = None
    dicom_seg: bool = True
    overlays: bool = True
    overwrite: bool = False

    def check(self) -> None:
        """Raise ConfigError with every mistake that needs no more than a look at the file system."""
        try:
            problems = [*self._missing(), *self._output_problems()]
        except PermissionError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}. Name a path that you may read or, for --output, write.") from error
        if problems:
            raise ConfigError(problems)

    def _missing(self) -> Iterator[str]:
        named = [("--checkpoint", path) for path in self.checkpoints]
        named += [] if self.structure_codes is None else [("--structure-codes", self.structure_codes)]
        for word, path in named:
            if not path.is_file():
                what = "is a folder" if path.is_dir() else "does not exist"
                example = "a checkpoint such as results/<experiment>/checkpoints/best.ckpt" if word == "--checkpoint" else "a YAML file"
                yield f"{word}: {path} {what}. Give the path of {example}."
        if not self.checkpoints:
            yield "--checkpoint: none is given."
        if len({path.resolve() for path in self.checkpoints}) < len(self.checkpoints):
            yield "--checkpoint: the same file is given twice. Its probabilities would count twice; give it once."
        if not self.input.exists():
            yield f"--input: {self.input} does not exist; paths are relative to the working directory, {Path.cwd()}."

    def _output_problems(self) -> Iterator[str]:
        if self.output.exists() and not self.output.is_dir():
            yield f"--output: {self.output} is a file. Give a folder; it is made if it is not there."
            return
        if self.output.exists() and self.input.exists() and self.output.samefile(self.input):
            yield f"--output: {self.output} is the input itself. Choose another folder."
        if (self.output / RECORD).exists():
            if not self.overwrite:
                yield f"--output: {self.output} already holds a prediction. Choose another folder, or pass --overwrite to replace it."
            return
        existing = [pattern for pattern in PREDICTED_FILES if any(self.output.glob(pattern))]
        if existing:
            yield (
                f"--output: {self.output} holds {', '.join(existing)} of something else than a prediction (it has no {RECORD}). "
                "Choose another folder."
            )


def parse_request(argv: Sequence[str] | None = None) -> PredictionRequest:
    """Read the words of the command line; `--help` prints them and ends the program with code 0, a wrong word with code 2."""
    parser = argparse.ArgumentParser(
        prog="python fuse_examples/imaging/oai_example/downstream/predict.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    checkpoints = "best.ckpt of a run; several are averaged, as a list in test_ckpt is"
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True, metavar="C", dest="checkpoints", help=checkpoints)
    scans = "DICOM folder, tree of DICOM series or NIfTI files, NIfTI file, or CSV file with a column path or img_path"
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help=scans)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the results; made if it is not there")
    codes = "YAML file with the codes of structures in DICOM-SEG objects; without it all are (85756007, SCT, Tissue)"
    parser.add_argument("--structure-codes", type=Path, metavar="FILE", help=codes)
    parser.add_argument("--no-dicom-seg", action="store_false", dest="dicom_seg", help="write NIfTI masks alone, also for DICOM series")
    parser.add_argument("--no-overlays", action="store_false", dest="overlays", help="write no pictures, which take about a second each")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier prediction in DIR")
    words = vars(parser.parse_args(argv))
    return PredictionRequest(**{**words, "checkpoints": tuple(words["checkpoints"])})

"""The prediction stage: checkpoints and scans in; masks, probabilities, pictures and a record of how they came about out."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from fuse_examples.imaging.oai_example.configuration.prediction_request import PREDICTED_FILES, PredictionRequest
from fuse_examples.imaging.oai_example.configuration.structure_codes import read_structure_codes
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.header_check import CaseHeaders, survey_headers
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes, check_window
from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.data.scan_list import ScanList, list_scans
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.errors import DataError, UserError, no_room
from fuse_examples.imaging.oai_example.evaluation.dicom_seg import Segmenter
from fuse_examples.imaging.oai_example.stages.prediction_files import BadScan, PredictedCase, Prediction, write_case, write_tables
from fuse_examples.imaging.oai_example.stages.prediction_models import Model, open_model
from fuse_examples.imaging.oai_example.stages.resolution import reading_of
from fuse_examples.imaging.oai_example.training.environment import describe_environment
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.run_log import logged_to

WORKING = ".working."
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # PyTorch's words on a GPU and on a CPU
log = logging.getLogger(__name__)


def predict_and_tell(request: PredictionRequest) -> None:
    """Predict, and print where the results are.

    Raises:
        DataError: at the end, with every scan that could not be predicted or written in full; the others are there.
    """
    with Interruption():
        prediction = predict(request)
    print(f"{prediction.folder}: {len(prediction.cases)} of {len(prediction.cases) + len(prediction.bad)} scans predicted")
    problems = prediction.problems
    if problems:
        count = len(prediction.bad)
        told = f"{count} scan{'s' * (count != 1)} could not be used; the others are in {prediction.folder}."
        raise DataError([*shortened(problems), *([told] if count else [])])


def predict(request: PredictionRequest) -> Prediction:
    """Predict every scan that the request names, one at a time.

    The preprocessing is the first checkpoint's, as in its tests. A scan that cannot be used does not stop the others.

    Raises:
        UserError: mistakes of the request, a checkpoint or a table, all of one kind together, before the first scan.
    """
    request.check()
    model = open_model(request.checkpoints)
    scans = list_scans(request.input, leave_out=request.output, channels=model.config.channels or (), extra=model.columns)
    model.check(scans.cases, request.input)
    codes = read_structure_codes(request.structure_codes, model.structures)
    digests = [_sha256(path) for path in request.checkpoints]
    segmenter = Segmenter(model.structures, codes, ", ".join(digests)) if request.dicom_seg else None
    record = _record(request, model, digests)
    with _opened(request, model, record):
        return _predict_all(request, model, segmenter, scans, record)


def _predict_all(
    request: PredictionRequest, model: Model, segmenter: Segmenter | None, scans: ScanList, record: Mapping[str, object]
) -> Prediction:
    done: list[PredictedCase] = []
    bad = [BadScan(path.name, path, (problem,)) for path, problem in scans.unusable]
    for scan in bad:
        log.warning("%s", scan.problems[0])
    try:
        for case in tqdm(scans.cases, desc="Predicting", unit="scan", disable=None, leave=False):
            try:
                done.append(_predict_one(request, model, segmenter, case))
                for problem in done[-1].problems:
                    log.warning("%s: %s", case.name, problem)
            except Exception as error:
                if (full := no_room(error)) is not None:
                    raise full from error
                bad.append(BadScan(case.name, case.image, _problems_of(error)))
                log.warning("%s: %s", case.name, "\n".join(bad[-1].problems))
    finally:  # what was predicted before an interruption is there, with a table
        complete = len(done) + len(bad) == len(scans.cases) + len(scans.unusable)
        prediction = Prediction(model.stage, request.output, tuple(done), tuple(bad))
        write_tables(prediction, model, {**record, "complete": complete})
    return prediction


def _problems_of(error: Exception) -> tuple[str, ...]:
    """Why a scan could not be predicted. What nobody thought of is told too: it is no reason to leave out the scans that follow."""
    if isinstance(error, UserError):
        return error.problems
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return (f"takes more memory than there is ({error}). Crop it or use a machine with more.",)
    log.exception("the traceback of what follows")
    return (f"a mistake of this program ({type(error).__name__}: {error}). Please report it with the traceback in log.txt.",)


def _predict_one(request: PredictionRequest, model: Model, segmenter: Segmenter | None, case: Case) -> PredictedCase:
    case = model.case(case)
    headers = _headers(case, model)
    with tempfile.TemporaryDirectory(prefix=WORKING, dir=request.output) as place:
        volumes = CaseVolumes(case, _store(Path(place), model), headers)
        check_window(case, volumes.images(), model.config.intensity.window)
        found = model.predict(volumes, request.output)
        return write_case(request, model, segmenter, volumes, found)


def _headers(case: Case, model: Model) -> CaseHeaders:
    (survey,) = survey_headers([case], reading=reading_of(model.config))
    if survey.headers is None:
        raise DataError(survey.problems)
    return survey.headers


def _store(folder: Path, model: Model) -> VolumeStore:
    """A store of one case, so that no more than one is on the disk."""
    config = model.config
    assert config.orientation is not None  # the checkpoint's
    return VolumeStore(folder, config.orientation, config.intensity.percentiles or (0.0, 100.0), reading_of(config))


@contextmanager
def _opened(request: PredictionRequest, model: Model, record: Mapping[str, object]) -> Iterator[None]:
    """Clear an earlier prediction, write what this one is made with, and log to `log.txt` until the block ends."""
    try:
        for path in [path for pattern in PREDICTED_FILES for path in request.output.glob(pattern)]:
            path.unlink()
        for left in request.output.glob(f"{WORKING}*"):
            shutil.rmtree(left, ignore_errors=True)
        request.output.mkdir(parents=True, exist_ok=True)
        write_tables(Prediction(model.stage, request.output, (), ()), model, {**record, "complete": False})
    except OSError as error:
        raise UserError(f"--output: {request.output} cannot be written ({error.strerror or error}). Choose another folder.") from error
    with logged_to(request.output / "log.txt"):
        log.info("%s: %s", request.output, model.stage)
        yield


def _record(request: PredictionRequest, model: Model, digests: Sequence[str]) -> dict[str, object]:
    return {
        "stage": model.stage,
        "checkpoints": [{"path": str(path), "sha256": digest} for path, digest in zip(request.checkpoints, digests, strict=True)],
        "input": str(request.input),
        "settings": model.config.dump(),
        "environment": describe_environment(seed=None),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

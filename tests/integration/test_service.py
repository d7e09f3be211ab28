"""The service: `predict` as a function, and the MCP server as a client of the official SDK sees it over standard input and output."""

import asyncio
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import mcp
import nibabel
import numpy as np
import predicting
import pytest
import small_stages
import torch
from mcp.client.stdio import StdioServerParameters, stdio_client

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.service import predict

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # a server that imports torch, and two trainings; what it refuses has quick tests too
DOCUMENT = (ROOT / "docs" / "prediction.md").read_text()
SERVICE = "fuse_examples.imaging.oai_example.service"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`models` with a segmenter, a classifier and two files that are neither; `data` with scans; `secret` beside them."""
    folder = tmp_path_factory.mktemp("service")
    table = small_stages.write_cases(folder / "cases", 4)
    runs = {stage: small_stages.run(stage, table, folder / "results") for stage in ("segmentation", "classification")}
    for stage, run in runs.items():
        (folder / "models" / stage).mkdir(parents=True)
        (folder / "models" / stage / "best.ckpt").write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())

    class Code:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {folder / 'executed'}",)

    (folder / "models" / "evil.ckpt").write_bytes(pickle.dumps(Code()))
    (folder / "secret").mkdir()
    (folder / "secret" / "scan.nii.gz").write_bytes((folder / "cases" / "scan01.nii.gz").read_bytes())
    (folder / "secret" / "best.ckpt").write_bytes((folder / "models" / "segmentation" / "best.ckpt").read_bytes())
    (folder / "models" / "stolen.ckpt").symlink_to(folder / "secret" / "best.ckpt")
    (folder / "data").mkdir()
    (folder / "data" / "scan.nii.gz").write_bytes((folder / "cases" / "scan00.nii.gz").read_bytes())
    predicting.write_series(folder / "data" / "knees" / "knee 1", 1)
    (folder / "data" / "knees" / "broken.nii.gz").write_bytes(b"\x1f\x8bno gzip")
    (folder / "data" / "link.nii.gz").symlink_to(folder / "secret" / "scan.nii.gz")
    (folder / "data" / "table.csv").write_text(f"path\n{folder / 'secret' / 'scan.nii.gz'}\n")
    return folder


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "models": ("list_models", {}),
    "scan": ("check_scan", {"scan": "scan.nii.gz"}),
    "series": ("check_scan", {"scan": "knees/knee 1"}),
    "broken": ("check_scan", {"scan": "knees/broken.nii.gz"}),
    "classes": ("classify", {"models": ["classification/best.ckpt"], "scans": "scan.nii.gz"}),
    "masks": ("segment", {"models": ["segmentation/best.ckpt"], "scans": "knees", "output": "masks"}),
    "again": ("segment", {"models": ["segmentation/best.ckpt"], "scans": "knees", "output": "masks"}),
    "wrong tool": ("segment", {"models": ["classification/best.ckpt"], "scans": "knees", "output": "x"}),
    "outside": ("check_scan", {"scan": "../secret/scan.nii.gz"}),
    "absolute": ("classify", {"models": ["classification/best.ckpt"], "scans": "/etc"}),
    "output outside": ("segment", {"models": ["segmentation/best.ckpt"], "scans": "scan.nii.gz", "output": "../secret/out"}),
    "link": ("check_scan", {"scan": "link.nii.gz"}),
    "link in the folder": ("segment", {"models": ["segmentation/best.ckpt"], "scans": ".", "output": "x"}),
    "table": ("classify", {"models": ["classification/best.ckpt"], "scans": "table.csv"}),
    "model outside": ("segment", {"models": ["../secret/best.ckpt"], "scans": "scan.nii.gz", "output": "x"}),
    "linked model": ("segment", {"models": ["stolen.ckpt"], "scans": "scan.nii.gz", "output": "x"}),
    "evil": ("segment", {"models": ["evil.ckpt"], "scans": "scan.nii.gz", "output": "x"}),
}


@pytest.fixture(scope="module")
def served(place: Path) -> dict[str, Any]:
    """Names of the tools, the answers to `CALLS`, and what an unknown argument gives, from one server."""
    (command,) = re.findall(rf"^python (-m {SERVICE} .*)$", DOCUMENT, re.M)
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    server = StdioServerParameters(command=sys.executable, args=shlex.split(command), cwd=place, env=environment)

    async def session() -> dict[str, Any]:
        with (place / "log.txt").open("w") as log:
            async with mcp.Client(stdio_client(server, errlog=log)) as client:
                found: dict[str, Any] = {"tools": {tool.name: tool for tool in (await client.list_tools()).tools}}
                for name, (tool, arguments) in CALLS.items():
                    answer = await client.call_tool(tool, arguments)
                    assert not answer.is_error, (name, answer)
                    found[name] = answer.structured_content
                found["bad call"] = await client.call_tool("check_scan", {"path": 7})
                return found

    return asyncio.run(asyncio.wait_for(session(), 1200))


def test_the_tools_are_offered_with_what_they_take(served: dict[str, Any]) -> None:
    assert set(served["tools"]) == {"list_models", "check_scan", "classify", "segment"}
    schema = served["tools"]["segment"].input_schema
    assert set(schema["properties"]) == {"models", "scans", "output", "overwrite"}
    assert schema["required"] == ["models", "scans", "output"]
    assert all(tool.description for tool in served["tools"].values())
    assert served["bad call"].is_error  # what does not fit the schema is the protocol's own error


def test_models_are_listed_with_what_they_predict(served: dict[str, Any]) -> None:
    answer = served["models"]
    found = {one["model"]: one for one in answer["models"]}
    assert answer["ok"] is True
    assert list(found) == ["classification/best.ckpt", "evil.ckpt", "segmentation/best.ckpt", "stolen.ckpt"]
    assert (found["segmentation/best.ckpt"]["stage"], found["segmentation/best.ckpt"]["structures"]) == ("segmentation", ["structure_1"])
    (target,) = found["classification/best.ckpt"]["targets"]
    assert (target["target"], target["classes"]) == ("size", ["large", "small"])
    assert [found[name]["usable"] for name in found] == [True, False, True, False]
    assert "othing in it was run" in found["evil.ckpt"]["problems"][0]
    assert "leads out" in found["stolen.ckpt"]["problems"][0]


def test_a_scan_is_checked(served: dict[str, Any], place: Path) -> None:
    scan, series = served["scan"], served["series"]
    assert (scan["ok"], scan["kind"], scan["shape"], scan["orientation"]) == (True, "NIfTI", list(small_stages.SHAPE), "RAS")
    assert scan["spacing_mm"] == list(small_stages.SPACING)
    assert (series["kind"], series["files"], series["description"]) == ("DICOM", 14, "SAG_3D_DESS_LEFT")
    assert served["broken"]["ok"] is False
    assert "knees/broken.nii.gz: the compressed file is" in served["broken"]["problems"][0]


def test_classes_and_masks_are_those_of_predict(served: dict[str, Any], place: Path, tmp_path: Path) -> None:
    (case,) = served["classes"]["cases"]
    classified = predict(place / "models" / "classification" / "best.ckpt", place / "data" / "scan.nii.gz", tmp_path / "a", overlays=False)
    assert case == {
        "case": "scan",
        "scan": "scan.nii.gz",
        "probabilities": classified.cases[0].probabilities,
        "predicted": classified.cases[0].predicted,
    }
    (case,) = served["masks"]["cases"]
    segmented = predict([place / "models" / "segmentation" / "best.ckpt"], place / "data" / "knees", tmp_path / "b", overlays=False)
    assert [scan.name for scan in segmented.bad] == ["broken"]
    assert [scan["case"] for scan in served["masks"]["bad_cases"]] == ["broken"]
    assert case["volumes_ml"] == segmented.cases[0].volumes_ml
    one, other = nibabel.load(place / "data" / case["mask"]), nibabel.load(segmented.cases[0].mask)
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    assert {(place / "data" / case[name]).is_file() for name in ("mask", "dicom_seg", "overlay")} == {True}
    assert segmented.cases[0].dicom_seg == tmp_path / "b" / "dicom_seg" / "knee_1.dcm"


@pytest.mark.parametrize(
    ("call", "told"),
    {
        "outside": "lies outside --root",
        "absolute": "/etc: lies outside --root",
        "output outside": "../secret/out: lies outside --root",
        "link": "link.nii.gz: lies outside --root, or a link on the way leads out",
        "link in the folder": "link.nii.gz: is a link that leads out of --root",
        "table": "is a table, which may name paths anywhere",
        "model outside": "lies outside --models",
        "linked model": "stolen.ckpt: lies outside --models, or a link on the way leads out",
        "evil": "othing in it was run",
        "again": "already holds a prediction",
        "wrong tool": "is a model of classification; call `classify` with it",
    }.items(),
)
def test_what_is_refused_is_told_as_data(call: str, told: str, served: dict[str, Any], place: Path) -> None:
    assert served[call]["ok"] is False
    assert told in " ".join(served[call]["problems"])
    assert not (place / "executed").exists()
    assert not (place / "secret" / "out").exists()
    assert not (place / "data" / "x").exists()


def test_a_mistake_of_ours_is_data_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fuse_examples.imaging.oai_example.service import tools

    monkeypatch.setattr(tools, "predict", lambda *_, **__: 1 / 0)
    answer = tools.Tools(place / "data", place / "models").classify(["classification/best.ckpt"], "scan.nii.gz")
    assert answer == {"ok": False, "problems": ["internal error (ZeroDivisionError); the server's log has the details"]}


def test_the_function_tells_mistakes_as_errors_and_torch_comes_with_the_first_call(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--checkpoint: .*none\.ckpt does not exist"):
        predict(tmp_path / "none.ckpt", place / "data" / "scan.nii.gz", tmp_path / "out")
    code = f"import sys, {SERVICE}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"
    assert torch.__version__


def test_the_example_of_the_document_runs(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
    monkeypatch.chdir(place)
    exec(example, {})
    case, bad = capsys.readouterr().out.splitlines()
    assert case.startswith("knee_1 predictions/segmentations/knee_1.nii.gz predictions/dicom_seg/knee_1.dcm {'structure_1': ")
    assert bad.startswith("broken (")


def test_help_and_a_root_that_is_no_folder(place: Path) -> None:
    words = [sys.executable, "-m", SERVICE, "--root", str(place / "none"), "--models", str(place / "models")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (2, f"--root: {place / 'none'} is not a folder.\n")
    done = subprocess.run([*words[:3], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout.split()[0]) == (0, "usage:")

"""The tools' answers to what they refuse before any model is opened: data, and nothing is written."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fuse_examples.imaging.oai_example.service import tools
from fuse_examples.imaging.oai_example.service.tools import Tools


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for folder in ("data/out", "models", "secret"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_an_output_with_a_link_that_leads_out_is_refused(place: Path) -> None:
    (place / "data" / "out" / "segmentations").symlink_to(place / "secret")
    answer = Tools(place / "data", place / "models").segment(["a.ckpt"], "scan.nii.gz", "out")
    assert answer == {
        "ok": False,
        "problems": ["out/segmentations: is a link that leads out of --root. Take it away, or copy what it leads to."],
    }
    assert list((place / "secret").iterdir()) == []


def test_a_model_that_is_not_there_is_told(place: Path) -> None:
    answer = Tools(place / "data", place / "models").segment(["a.ckpt"], "scan.nii.gz", "out")
    assert answer == {"ok": False, "problems": ["a.ckpt: does not exist in --models."]}


@pytest.mark.parametrize("what", ["scan.nii.gz", "out"])
def test_what_is_exchanged_for_a_link_while_a_call_waits_is_refused(what: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Turn:
        """A lock for which a call waits while the path is exchanged."""

        def __enter__(self) -> None:
            (place / "data" / what).rename(place / "data" / "before")
            (place / "data" / what).symlink_to(place / "secret")

        def __exit__(self, *_: object) -> None:
            pass

    (place / "models" / "a.ckpt").touch()
    (place / "data" / "scan.nii.gz").touch()
    monkeypatch.setattr(Tools, "_check_stage", lambda *_: None)
    monkeypatch.setattr(tools, "predict", lambda *_, **__: pytest.fail("was predicted"))
    served = Tools(place / "data", place / "models")
    monkeypatch.setattr(served, "_one_at_a_time", Turn())
    answer = served.segment(["a.ckpt"], "scan.nii.gz", "out")
    told = f"{what}: lies outside --root, or a link on the way leads out. Name a path inside it."
    assert answer == {"ok": False, "problems": [told]}


def test_predictions_are_made_one_after_the_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, answers = [0], [0], []

    def predict(*_: Any, **__: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        return SimpleNamespace(stage="segmentation", cases=(), bad=())

    for name in ("models/a.ckpt", "data/scan.nii.gz"):
        (place / name).touch()
    monkeypatch.setattr(Tools, "_check_stage", lambda *_: None)
    monkeypatch.setattr(tools, "predict", predict)
    served = Tools(place / "data", place / "models")
    calls = [lambda n=n: answers.append(served.segment(["a.ckpt"], "scan.nii.gz", f"out_{n}")) for n in range(3)]
    calls += [lambda: answers.append(served.classify(["a.ckpt"], "scan.nii.gz"))]
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer["ok"] for answer in answers] == [True] * 4
    assert most == [1]


def test_a_model_that_is_named_twice_is_told_at_once(place: Path) -> None:
    answer = Tools(place / "data", place / "models").classify(["a.ckpt"] * 1000, "scan.nii.gz")
    assert answer == {"ok": False, "problems": ["a.ckpt is named twice. Its probabilities would count twice; name it once."]}

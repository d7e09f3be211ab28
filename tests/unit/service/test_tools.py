"""The tools' answers to what they refuse before any model is opened: data, and nothing is written."""

from pathlib import Path

import pytest

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

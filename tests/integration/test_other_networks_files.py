"""A file of one network for a stage whose configuration insists on another: exit code 2, the reason, and nothing is run."""

from pathlib import Path

import pytest
import small_stages
import torch
import yaml

from fuse_examples.imaging.oai_example.models.backbone import build_backbone

OPTIONS = {"swin_unetr": {"width": 12}, "unet3d": {"width": 2}, "resnet3d": {"width": 2, "depth": 10}}


@pytest.mark.parametrize("key", ["suprem_weights", "dino_weights"])
@pytest.mark.parametrize(
    ("stage", "held", "wanted", "width"),
    [
        ("segmentation", "swin_unetr", "unet3d", 2),
        ("dino", "unet3d", "swin_unetr", 12),
        ("classification", "resnet3d", "unet3d", 2),
    ],
)
def test_a_file_of_another_network(
    stage: str, held: str, wanted: str, width: int, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = small_stages.write_cases(tmp_path / "scans", 1)
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": build_backbone(held, **OPTIONS[held]).state_dict()}, file)
    size = [32, 32, 32]
    sizes = {"crops": {"global_size": size, "local_size": size, "n_local": 1}} if stage == "dino" else {"resize_to": size}
    code = small_stages.start(stage, cases, tmp_path / "results", f"{key}={file}", backbone=wanted, width=width, **sizes)
    error = capsys.readouterr().err
    assert code == 2, error
    assert f"{key}: {file} does not hold the whole encoder of {wanted}: 0 of " in error
    assert f"These are names of {held}: set backbone: {held}, or choose weights of a {wanted}." in error
    assert "Traceback" not in error
    assert not list((tmp_path / "results").rglob("*.ckpt"))


@pytest.mark.parametrize("from_words", [False, True])
def test_a_width_that_the_files_network_cannot_have(from_words: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The network is the file's, the width the user's: the message says where each comes from."""
    cases = small_stages.write_cases(tmp_path / "scans", 1)
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": build_backbone("swin_unetr", width=12).state_dict()}, file)
    changes = {"resize_to": [32, 32, 32], "suprem_weights": str(file), "width": None if from_words else 2}
    words = ["width=2"] if from_words else []
    code = small_stages.start("segmentation", cases, tmp_path / "results", *words, **changes)
    path = tmp_path / "results_segmentation.yaml"
    line = 1 + path.read_text().splitlines().index(f"width: {yaml.safe_dump(changes['width']).splitlines()[0]}")
    place = "command line: width=2" if from_words else f"{path}:{line}"
    error = capsys.readouterr().err
    assert code == 2
    assert (
        f"{place}: width is 2; it is a positive multiple of 12. suprem_weights: {file} holds a swin_unetr; set width to null to take what "
        "its weights were made with." in error
    )

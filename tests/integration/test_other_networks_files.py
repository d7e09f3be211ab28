"""A file of one network for a stage whose configuration insists on another: exit code 2, the reason, and nothing is run."""

from pathlib import Path

import pytest
import small_stages
import torch

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

"""The weight file a run starts from: what it fills, what it decides, and whose images it has seen."""

import json
import logging
from pathlib import Path

import pytest
import torch

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError, WeightsError
from fuse_examples.imaging.oai_example.models.resnet3d import ResNet3D
from fuse_examples.imaging.oai_example.models.sources import LICENCES
from fuse_examples.imaging.oai_example.models.swin_unetr import SwinUNETR
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.models.weights import save_backbone
from fuse_examples.imaging.oai_example.stages.resolution import build_configured_backbone, resolved
from fuse_examples.imaging.oai_example.stages.starting_weights import StartingWeights, keep_report, refuse_seen_patients, starting_weights
from fuse_examples.imaging.oai_example.training.patient_hashes import hash_patients

TAUGHT = {"backbone": "unet3d", "width": 2, "norm_statistics": "instance", "orientation": "LAS", "intensity": {"method": "zscore"}}


def config(**changes: object) -> DINOConfig:
    return DINOConfig.model_validate({"experiment": "e", "csv_path": "knees.csv", **changes})


def trained_unet() -> UNet3D:
    """No parameter and no buffer is what a new network has."""
    torch.manual_seed(0)
    network = UNet3D(width=2, with_decoder=False)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(3 if value.dtype == torch.long else 0.1 * torch.rand(value.shape))
    return network


def write(path: Path, **metadata: object) -> Path:
    save_backbone(path, trained_unet(), {"config": TAUGHT, "patients": hash_patients(["p1", "p2"]), **metadata})
    return path


def test_from_scratch() -> None:
    network = UNet3D(width=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found, weights, notes = starting_weights(config())
    assert weights.load_into(network) is None
    assert (found, weights.key, weights.path, weights.patients, notes) == (config(), None, None, [], ())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_every_tensor_of_the_file_reaches_the_network_and_the_report_the_folder_and_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "backbone.safetensors")
    _, weights, _ = starting_weights(config(dino_weights=str(file)))
    network = UNet3D(width=2)
    decoder = {name: value.clone() for name, value in network.state_dict().items() if network.is_decoder_key(name)}
    with caplog.at_level(logging.INFO):
        keep_report(weights.load_into(network), tmp_path)
    state = network.state_dict()
    source = trained_unet().state_dict()
    assert len(source) == 56
    assert [name for name, value in source.items() if not torch.equal(state[name], value)] == []
    assert [name for name, value in decoder.items() if not torch.equal(state[name], value)] == []
    report = json.loads((tmp_path / "load_report.json").read_text())
    assert sorted(report["missing"]) == sorted(decoder)
    assert (report["key"], report["path"], sorted(report["matched"])) == ("dino_weights", str(file), sorted(source))
    assert f"dino_weights: {file} -> unet3d\n" in caplog.text
    assert "encoder    56 of 56 tensors (100%)" in caplog.text


def test_nulls_take_what_the_file_was_made_with_and_what_is_set_must_agree(tmp_path: Path) -> None:
    file = write(tmp_path / "backbone.safetensors")
    found, weights, notes = starting_weights(config(dino_weights=str(file)))
    assert (found.width, found.norm_statistics, found.orientation, found.intensity.method) == (2, "instance", "LAS", "zscore")
    assert notes == ()
    assert weights.patients == json.loads(json.dumps(weights.metadata))["patients"]
    with pytest.raises(ConfigError, match="width: 4 differs from 2, which the weights were made with"):
        starting_weights(config(dino_weights=str(file), width=4))


@pytest.mark.parametrize(("name", "value"), [("config", ["width"]), ("patients", 5), ("patients", [5])])
def test_a_damaged_description_is_refused(name: str, value: object, tmp_path: Path) -> None:
    file = write(tmp_path / "backbone.safetensors", **{name: value})
    with pytest.raises(WeightsError, match=rf"dino_weights: .*backbone\.safetensors has a damaged description \({name}\)\. Give the file"):
        starting_weights(config(dino_weights=str(file)))


def test_values_in_the_description_that_no_setting_takes(tmp_path: Path) -> None:
    file = write(tmp_path / "backbone.safetensors", config=TAUGHT | {"width": "wide"})
    with pytest.raises(ConfigError, match="the weight file holds values that cannot be used here: width"):
        starting_weights(config(dino_weights=str(file)))


def test_a_file_of_other_people_decides_what_its_shapes_tell_and_nothing_else(tmp_path: Path) -> None:
    torch.save(trained_unet().state_dict(), tmp_path / "plain.pth")
    found, weights, notes = starting_weights(config(dino_weights=str(tmp_path / "plain.pth")))
    assert (found.backbone, found.width, found.norm_statistics, found.orientation) == ("unet3d", 2, None, None)
    assert (weights.patients, notes) == ([], ())
    # What is set stays, and loading says what does not fit.
    found, _, _ = starting_weights(config(dino_weights=str(tmp_path / "plain.pth"), width=4, orientation="PIR"))
    assert (found.width, found.orientation) == (4, "PIR")
    found, _, _ = starting_weights(config(dino_weights=str(tmp_path / "plain.pth"), backbone="swin_unetr"))
    assert (found.backbone, found.width) == ("swin_unetr", None)


@pytest.mark.parametrize("prefix", ["teacher_backbone.", "_model.backbone."])
def test_weights_of_the_earlier_example_set_the_orientation_they_were_trained_with(tmp_path: Path, prefix: str) -> None:
    state = {prefix + name: value for name, value in trained_unet().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "best.ckpt")
    found, weights, _ = starting_weights(config(dino_weights=str(tmp_path / "best.ckpt")))
    assert (found.orientation, found.width) == ("LIP", 2)
    report = weights.load_into(UNet3D(width=2))
    assert report is not None
    assert "so orientation is LIP." in report.as_text()
    assert starting_weights(config(dino_weights=str(tmp_path / "best.ckpt"), orientation="LIP"))[0].orientation == "LIP"
    with pytest.raises(ConfigError, match="orientation: 'RAS' differs from 'LIP', which the weights were made with; set it to null"):
        starting_weights(config(dino_weights=str(tmp_path / "best.ckpt"), orientation="RAS"))


def test_the_configuration_can_insist_on_what_no_name_shows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {f"module.backbone.{name}": value for name, value in SwinUNETR(width=12, swin_v2=True, with_decoder=False).state_dict().items()}
    torch.save({"net": state}, tmp_path / "swin.pth")
    for options, expected in ((None, "legacy"), ({"patch_merging": "legacy"}, "legacy"), ({"patch_merging": "monai_1.5"}, "monai_1.5")):
        found, weights, _ = starting_weights(config(suprem_weights=str(tmp_path / "swin.pth"), backbone_options=options))
        assert (found.backbone, found.width) == ("swin_unetr", 12)
        backbone = build_configured_backbone(found, with_decoder=False)
        report = weights.load_into(backbone)
        assert report is not None
        assert report.encoder.share == 1
        settled = resolved(found, backbone)
        assert settled.backbone_options == {"swin_v2": True, "patch_merging": expected}
        assert backbone.options["patch_merging"] == expected
        assert ("as the configuration says; weights of this kind were trained with legacy" in report.as_text()) == (expected != "legacy")


def test_where_weights_come_from_is_handed_on(tmp_path: Path) -> None:
    assert StartingWeights().origins == ()
    torch.save({"net": trained_unet().state_dict()}, tmp_path / "suprem.pth")
    _, weights, _ = starting_weights(config(suprem_weights=str(tmp_path / "suprem.pth")))
    origin = {"source": "SuPreM checkpoint", "file": "suprem.pth", "licence": LICENCES["suprem"]}
    assert list(weights.origins) == [origin]
    assert list(starting_weights(config(dino_weights=str(write(tmp_path / "own"))))[1].origins) == []
    _, weights, _ = starting_weights(config(dino_weights=str(write(tmp_path / "tuned", origins=[origin]))))
    assert list(weights.origins) == [origin]


class TestSeenPatients:
    def cases(self, *patients: str) -> list[Case]:
        return [Case(row + 2, f"c{row}", patient, Path("x"), None, "4", {}) for row, patient in enumerate(patients)]

    def test_none(self) -> None:
        assert refuse_seen_patients(self.cases("p3", "p4"), hash_patients(["p1"]), "w.ckpt", config()) == ()
        assert refuse_seen_patients(self.cases("p3"), StartingWeights().patients, None, config()) == ()

    def test_each_is_named_with_its_rows(self) -> None:
        with pytest.raises(DataError) as caught:
            refuse_seen_patients(self.cases("p1", "p3", "p2", "p1"), hash_patients(["p1", "p2"]), "w.ckpt", config())
        assert str(caught.value) == (
            "knees.csv: w.ckpt has learnt from images of 2 patient(s) of the test folds: p1 (rows 2, 5); p2 (rows 4). "
            "Choose other test_folds or other weights, or set allow_pretraining_overlap: true and say so with the result."
        )

    def test_of_many_twenty_are_named(self) -> None:
        names = [f"p{number}" for number in range(25)]
        with pytest.raises(DataError) as caught:
            refuse_seen_patients(self.cases(*names), hash_patients(names), "w.ckpt", config())
        assert "of 25 patient(s)" in str(caught.value)
        assert "p19 (rows 21); and 5 more." in str(caught.value)
        assert "p20" not in str(caught.value)

    def test_allowed_they_are_told(self) -> None:
        (line,) = refuse_seen_patients(self.cases("p1"), hash_patients(["p1"]), "w.ckpt", config(allow_pretraining_overlap=True))
        assert line.startswith("Warning: knees.csv: w.ckpt has learnt from images of 1 patient(s)")
        assert line.endswith("allow_pretraining_overlap is set.")

    def test_lists_of_several_salts_are_all_looked_at(self) -> None:
        mixed = [*hash_patients(["p1"]), *hash_patients(["p2"])]
        with pytest.raises(DataError, match="2 patient"):
            refuse_seen_patients(self.cases("p1", "p2"), mixed, "w.ckpt", config())


def test_options_that_the_shapes_tell_are_taken(tmp_path: Path) -> None:
    torch.save(ResNet3D(width=2, depth=10).state_dict(), tmp_path / "plain.pth")
    found, _, _ = starting_weights(config(dino_weights=str(tmp_path / "plain.pth")))
    assert (found.backbone, found.width, found.backbone_options) == ("resnet3d", 2, {"depth": 10, "shortcut": "B"})

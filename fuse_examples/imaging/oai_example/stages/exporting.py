"""A checkpoint in, files for other programs out; each is read back, or run, and compared before it is kept."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.covariates import Covariates
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.targets import target_from_dict
from fuse_examples.imaging.oai_example.errors import UserError, WeightsError
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.models.containers import WeightFile, read_weight_file
from fuse_examples.imaging.oai_example.models.onnx_file import write_onnx
from fuse_examples.imaging.oai_example.models.published_layout import PREFIXES, suprem_shaped
from fuse_examples.imaging.oai_example.models.sources import recognise
from fuse_examples.imaging.oai_example.models.weights import load_backbone_weights, save_backbone
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import check_fits, saved_backbone
from fuse_examples.imaging.oai_example.stages.classification_parts import classification_task, covariates_of_network
from fuse_examples.imaging.oai_example.stages.segmentation import segmentation_task
from fuse_examples.imaging.oai_example.stages.starting_weights import ORIGINS
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationTask
from fuse_examples.imaging.oai_example.training.checkpoints import write_checkpoint

KEY = "CHECKPOINT"
_DESCRIBED = ("stage", "config", "backbone", "backbone_options", "preprocessing")


@dataclass(frozen=True)
class ONNXNetwork:
    """A whole network, as it goes into an ONNX file.

    Attributes:
        network: (B, C, D, H, W) images, and (B, n) covariates where it takes them, to one tensor or a tuple of tensors.
        outputs: their names.
        facts: what a user of inputs and outputs must know, as plain values.
        n_covariates: numbers per case beside the image.
    """

    network: nn.Module
    outputs: tuple[str, ...]
    facts: Mapping[str, Any]
    n_covariates: int = 0


class Segmenter(nn.Module):
    """(B, C, D, H, W) to logits (B, K, D, H, W)."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, image: Tensor) -> Tensor:
        """Logits of each class, background first."""
        logits: Tensor = self.head(self.backbone.decode(self.backbone.encode(image)))
        return logits


class Classifier(nn.Module):
    """(B, C, D, H, W), and (B, n) covariates where the heads take them, to a tensor (B, K) for each target."""

    def __init__(self, task: ClassificationTask, targets: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.pooling, self.heads, self.targets = task.backbone, task.pooling, task.heads, tuple(targets)

    def forward(self, image: Tensor, covariates: Tensor | None = None) -> tuple[Tensor, ...]:
        """The heads' outputs in the order of the targets."""
        if self.pooling is None:
            features = self.backbone.embed(image)
        else:
            features = self.pooling(self.backbone.encode(image)[-1], image.shape[2:], self.backbone.size_multiple)
        outputs = self.heads(features if covariates is None else torch.cat([features, covariates], dim=1))
        return tuple(outputs[target] for target in self.targets)


def export_checkpoint(path: Path, folder: Path | None, size: Sequence[int] | None, *, overwrite: bool = False) -> list[str]:
    """Write the files; all of them, or none.

    Args:
        path: a checkpoint of a run, or a backbone file of this project.
        folder: where they go; None for `export` beside the run's `checkpoints`.
        size: (D, H, W) of the ONNX file's input; None for the size that the network was trained on.
        overwrite: whether files of these names may be replaced.

    Returns:
        A line for each file.

    Raises:
        UserError: the file is not of this project, a target exists, or what was written is not what was read.
    """
    file = read_weight_file(path, KEY)
    project = _project(file)
    folder = folder or (path.parent.parent if path.parent.name == "checkpoints" else path.parent) / "export"
    encoder = saved_backbone(project, with_decoder=False)
    with_decoder = any(map(encoder.is_decoder_key, recognise(file).tensors))
    backbone = saved_backbone(project, with_decoder=True) if with_decoder else encoder
    load_backbone_weights(backbone, path, KEY)
    whole = _whole_network(file, project)
    suprem = f"suprem_{backbone.name}.pth"
    names = ["backbone.safetensors", *([suprem] if backbone.name in PREFIXES else []), *([f"{project['stage']}.onnx"] if whole else [])]
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise UserError(f"{folder} already holds {', '.join(existing)}. Choose another --output, or pass --overwrite to replace them.")
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    with tempfile.TemporaryDirectory(prefix=".export.", dir=folder) as place:
        beside = Path(place)
        save_backbone(beside / "backbone.safetensors", backbone, project)
        lines.append(f"backbone.safetensors: {_read_back(backbone, project, beside / 'backbone.safetensors')}")
        if suprem in names:
            write_checkpoint(suprem_shaped(backbone, project), beside / suprem)
            lines.append(f"{suprem}: {_read_back(backbone, project, beside / suprem)}{_caution(backbone)}")
        if whole:
            lines.append(_write_onnx(whole, project, beside / names[-1], size))
        for name in names:
            shutil.move(beside / name, folder / name)
    return [f"Wrote {folder}:", *(f"  {line}" for line in lines)]


def _project(file: WeightFile) -> dict[str, Any]:
    lost = [name for name in _DESCRIBED if name not in file.metadata]
    if lost:
        raise WeightsError(
            f"{KEY}: {file.path} does not say how its network was made ({', '.join(lost)}). Give a checkpoint or backbone.safetensors "
            "of a run of this project."
        )
    return {ORIGINS: [], **file.metadata}


def _whole_network(file: WeightFile, project: Mapping[str, Any]) -> ONNXNetwork | None:
    """The network with its heads; None where the file has none, as after pre-training."""
    if file.entry != "state_dict" or project["stage"] not in ("segmentation", "classification"):
        return None
    if project["stage"] == "segmentation":
        config = SegmentationConfig.model_validate(project["config"])
        segmenting = segmentation_task(config, saved_backbone(project, with_decoder=True))
        _fill(segmenting, file)
        names = ["background", *config.structures]
        return ONNXNetwork(Segmenter(segmenting.backbone, segmenting.head).eval(), ("logits",), {"structures": names})
    learned = tuple(target_from_dict(entry) for entry in project["classes"])
    covariates = Covariates.from_list(project.get("covariates", []))
    taught = ClassificationConfig.model_validate(project["config"])
    classifying = classification_task(taught, saved_backbone(project, with_decoder=False), learned, covariates)
    _fill(classifying, file)
    targets = [one.target for one in learned]
    outputs = tuple(f"logits.{name}" for name in targets)
    facts = {"classes": project["classes"], "covariates": project.get("covariates", [])}
    return ONNXNetwork(Classifier(classifying, targets).eval(), outputs, facts, covariates_of_network(taught, covariates).length)


def _fill(task: nn.Module, file: WeightFile) -> None:
    check_fits(task, file.tensors, file.path, KEY)
    task.load_state_dict(file.tensors)


def _read_back(backbone: Backbone, project: Mapping[str, Any], path: Path) -> str:
    again = saved_backbone(project, with_decoder=backbone.has_decoder)
    load_backbone_weights(again, path, path.name)
    found = again.state_dict()
    differing = [name for name, value in backbone.state_dict().items() if not torch.equal(value.cpu(), found[name])]
    if differing or again.options != backbone.options:
        raise UserError(
            f"{path.name} reads back differently ({', '.join(differing[:3]) or 'options'}). Nothing was kept; is the disk full?"
        )
    return f"{len(found)} tensors of {backbone.name}, read back and equal"


def _caution(backbone: Backbone) -> str:
    if backbone.options.get("patch_merging") != "monai_1.5":
        return ""
    return "; it computes with the patch merging of MONAI 1.5, so programs with an older MONAI get other features"


def _write_onnx(whole: ONNXNetwork, project: Mapping[str, Any], path: Path, size: Sequence[int] | None) -> str:
    preprocessing = Preprocessing.from_dict(project["preprocessing"])
    channels = int(project["backbone_options"]["in_channels"])
    shape = (channels, *(size or preprocessing.network_size))
    told = {"preprocessing": project["preprocessing"], ORIGINS: project[ORIGINS], "stage": project["stage"], **whole.facts}
    inputs: dict[str, Sequence[int]] = {"image": shape}
    if whole.n_covariates:
        inputs["covariates"] = (whole.n_covariates,)
    metadata = {"project": json.dumps(told, allow_nan=False)}
    difference = write_onnx(whole.network, path, inputs=inputs, outputs=whole.outputs, metadata=metadata)
    text = "x".join(map(str, shape))
    return f"{path.name}: images of batch x {text}, within {difference:.1g} of PyTorch (ONNX Runtime, relative to the largest output)"

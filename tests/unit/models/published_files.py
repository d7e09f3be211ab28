"""Small weight files in the exact containers and under the exact names of each published source, from the lists in `tests/golden`."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets.resnet import ResNet as MonaiResNet
from torch import Tensor

from fuse_examples.imaging.oai_example.models.swin_unetr import SwinUNETR

GOLDEN = Path(__file__).parents[2] / "golden"
Tensors = dict[str, Tensor]
Content = dict[str, Any]
SWIN_STAGES = range(1, 5)
ENCODERS = ("down_tr", "swinViT.", "convInit.", "down_layers.", "conv1.", "bn1.", "layer")


def golden_shapes(name: str) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads((GOLDEN / f"{name}_keys.json").read_text())
    return shapes


def drawn(shapes: Mapping[str, list[int]], seed: int, before: int, after: int) -> Tensors:
    """Random tensors of the listed names; lengths that are multiples of the published width `before` are scaled to `after`."""
    draw = torch.Generator().manual_seed(seed)
    tensors: Tensors = {}
    for name, shape in shapes.items():
        values = torch.randn([length * after // before if length % before == 0 else length for length in shape], generator=draw)
        tensors[name] = torch.tensor(1234) if name.endswith("num_batches_tracked") else values.abs() if name.endswith("var") else values
    return tensors


def unet(seed: int = 1, width: int = 2) -> Tensors:
    return drawn(golden_shapes("unet3d"), seed, 32, width)


@cache
def _index() -> Tensor:
    state = SwinUNETR(width=12, with_decoder=False).state_dict()
    return state["swinViT.layers1.0.blocks.0.attn.relative_position_index"]


def swin(seed: int = 2, width: int = 12, *, v2: bool = False) -> Tensors:
    """A Swin UNETR's tensors; the index of relative positions is not drawn, since it follows from the window."""
    shapes = golden_shapes("swin_unetr")
    if v2:
        names = [f"swinViT.layers{stage}c.0.layer.conv{number}.conv.weight" for stage in SWIN_STAGES for number in (1, 2)]
        shapes |= {name: [48 * 2 ** (int(name[14]) - 1)] * 2 + [3, 3, 3] for name in names}
    tensors = drawn(shapes, seed, 48, width)
    return {name: _index().clone() if name.endswith("relative_position_index") else value for name, value in tensors.items()}


def segresnet(seed: int = 3, width: int = 8) -> Tensors:
    """Without the last convolution, which is a head here."""
    shapes = {name: shape for name, shape in golden_shapes("segresnet").items() if not name.startswith("conv_final.2.")}
    return drawn(shapes, seed, 16, width)


def resnet(depth: int) -> Tensors:
    """The encoder of MONAI's own network, with MedicalNet's shortcuts, of width 2."""
    blocks = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}[depth]
    kind, shortcut = "bottleneck" if depth == 50 else "basic", "A" if depth in (18, 34) else "B"
    torch.manual_seed(depth)
    network = MonaiResNet(kind, blocks, [2, 4, 8, 16], 3, 1, shortcut_type=shortcut, feed_forward=False, bias_downsample=False)
    draw = torch.Generator().manual_seed(depth)
    tensors = {
        name: value + torch.rand(value.shape, generator=draw) for name, value in network.state_dict().items() if value.is_floating_point()
    }
    return tensors | {name: torch.tensor(77) for name in network.state_dict() if name.endswith("num_batches_tracked")}


def encoder(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if name.startswith(ENCODERS)}


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def renamed(tensors: Tensors, rename: Callable[[str], str]) -> Tensors:
    return {rename(name): value for name, value in tensors.items()}


def with_optimizer(entry: str, tensors: Tensors, **more: Any) -> Content:
    """What a training loop saves: tensors, AdamW with its moments, a scheduler with NumPy numbers in it, the epoch."""
    weights = [torch.nn.Parameter(value.clone()) for value in tensors.values() if value.ndim > 1 and value.is_floating_point()][:3]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=1e-5)
    sum(weight.square().sum() for weight in weights).backward()
    optimizer.step()
    scheduler = {"base_lrs": [1e-4], "last_epoch": 800, "_step_count": 801, "_last_lr": [np.float64(1e-5)], "warmup_epochs": np.int64(20)}
    return {entry: OrderedDict(tensors), "optimizer": optimizer.state_dict(), "scheduler": scheduler, "epoch": 800, **more}


def language_heads(features: int, deepest: int, organs: int) -> Tensors:
    """SuPreM's 13 head tensors: `features` channels of the decoder's map, `deepest` of the encoder's."""
    shapes = {
        "organ_embedding": (organs, 512),
        "precls_conv.0.weight": (features,),
        "precls_conv.0.bias": (features,),
        "precls_conv.2.weight": (8, features, 1, 1, 1),
        "precls_conv.2.bias": (8,),
        "GAP.0.weight": (deepest,),
        "GAP.0.bias": (deepest,),
        "GAP.3.weight": (256, deepest, 1, 1, 1),
        "GAP.3.bias": (256,),
        "controller.weight": (153, 512, 1, 1, 1),
        "controller.bias": (153,),
        "text_to_vision.weight": (256, 512),
        "text_to_vision.bias": (256,),
    }
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def suprem_unet(tensors: Tensors, organs: int = 32) -> Content:
    return with_optimizer("net", prefixed(tensors, "module.backbone.") | prefixed(language_heads(64, 512, organs), "module."))


def suprem_swin(tensors: Tensors, organs: int = 32) -> Content:
    return with_optimizer("net", prefixed(tensors, "module.backbone.") | prefixed(language_heads(48, 768, organs), "module."))


def universal_swin(tensors: Tensors) -> Content:
    """The older universal model: the network's modules at the top level, without `backbone.`."""
    return with_optimizer("net", prefixed(tensors | language_heads(48, 768, 32), "module."))


def suprem_backbone_alone(tensors: Tensors) -> Content:
    """What newer SuPreM code writes as <backbone>_backbone.pth."""
    return with_optimizer("net", tensors)


def suprem_segresnet(tensors: Tensors) -> Content:
    """SuPreM wraps this network once: no `backbone.`, and the 32 outputs of the 2100 release instead of language heads."""
    width = tensors["convInit.conv.weight"].shape[0]
    output = {"conv_final.2.conv.weight": torch.ones(32, width, 1, 1, 1), "conv_final.2.conv.bias": torch.ones(32)}
    return with_optimizer("net", prefixed(tensors | output, "module."))


def medicalnet(tensors: Tensors) -> Content:
    heads = {"conv_seg.0.weight": torch.ones(16, 32, 2, 2, 2), "conv_seg.0.bias": torch.ones(32), "conv_seg.1.weight": torch.ones(32)}
    return {"state_dict": OrderedDict(prefixed(tensors | heads, "module.")), "epoch": 90}


def models_genesis(tensors: Tensors) -> Content:
    output = {"out_tr.final_conv.weight": torch.ones(1, tensors["up_tr64.ops.1.conv1.bias"].numel(), 1, 1, 1)}
    output["out_tr.final_conv.bias"] = torch.ones(1)
    return with_optimizer("state_dict", prefixed(tensors | output, "module."))


def older(name: str) -> str:
    return name.replace("linear1", "fc1").replace("linear2", "fc2")


def model_swinvit(tensors: Tensors) -> Content:
    bare = renamed(encoder(tensors), lambda name: older(name.removeprefix("swinViT.")))
    heads = {"norm.weight": torch.ones(16), "norm.bias": torch.ones(16), "rotation_head.weight": torch.ones(4, 16)}
    heads |= {"rotation_head.bias": torch.ones(4), "contrastive_head.weight": torch.ones(8, 16), "contrastive_head.bias": torch.ones(8)}
    heads |= {"convTrans3d.weight": torch.ones(16, 1, 2, 2, 2), "convTrans3d.bias": torch.ones(1)}
    return {"epoch": 100, "state_dict": OrderedDict(prefixed(bare | heads, "module."))}


def ssl_head_of_one_gpu(tensors: Tensors) -> Content:
    heads = {"rotation_head.weight": torch.ones(4, 16), "contrastive_head.weight": torch.ones(8, 16), "conv.0.weight": torch.ones(2, 2)}
    return {"state_dict": renamed(encoder(tensors), lambda name: name.replace("swinViT.", "swin_vit.")) | heads, "epoch": 3}


def ssl_pretrained_weights(tensors: Tensors) -> Content:
    def deeper(name: str) -> str:
        parts = name.removeprefix("swinViT.").split(".")
        return ".".join(["encoder", *parts[:2], *(["0"] if parts[0].startswith("layers") else []), *parts[2:]])

    transformer = renamed(encoder(tensors), deeper)
    rest = {name: value for name, value in tensors.items() if not name.startswith("swinViT.")}
    own = {"encoder.mask_token": torch.zeros(1, 1, 12), "encoder.norm.weight": torch.ones(16), "encoder.norm.bias": torch.ones(16)}
    return with_optimizer("model", transformer | own | rest | output_convolution(1))


def output_convolution(classes: int) -> Tensors:
    return {"out.conv.conv.weight": torch.ones(classes, 12, 1, 1, 1), "out.conv.conv.bias": torch.ones(classes)}


def monai_segmenter(tensors: Tensors) -> Content:
    return {"state_dict": tensors | output_convolution(14), "best_acc": 0.8, "epoch": 5000}


def voco_cvpr(tensors: Tensors) -> Tensors:
    heads = {f"{who}.layer1.0.weight": torch.ones(4, 4) for who in ("student", "teacher")}
    return prefixed(prefixed(encoder(tensors), "backbone.") | heads, "module.")


def voco_omni(tensors: Tensors) -> Content:
    return {"state_dict": tensors | output_convolution(21), "epoch": 10}


def lightning(state: Tensors, **more: Any) -> Content:
    return {
        "epoch": 69,
        "global_step": 12345,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 70}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(1.0), "best_model_path": "/x"}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.002}]}],
        "lr_schedulers": [{"base_lrs": [0.002], "last_epoch": 70}],
        **more,
    }


def earlier_dino(tensors: Tensors) -> Content:
    """Encoders of teacher and student, both heads with old-style weight norm, the centre."""
    heads: Tensors = {}
    for who in ("student", "teacher"):
        for layer in (0, 2, 4):
            heads |= {f"{who}_head.layers.{layer}.weight": torch.ones(4, 4), f"{who}_head.layers.{layer}.bias": torch.ones(4)}
        heads |= {f"{who}_head.last_layer.weight_g": torch.ones(8, 1), f"{who}_head.last_layer.weight_v": torch.ones(8, 4)}
    student = renamed(encoder(unet(9)), lambda name: f"student_backbone.{name}")
    return lightning({**student, **prefixed(encoder(tensors), "teacher_backbone."), **heads, "criterion.center": torch.zeros(1, 1, 8)})


def earlier_mae(tensors: Tensors) -> Content:
    heads = {"_model.heads.0.conv.weight": torch.ones(1, 4, 1, 1, 1), "_model.heads.0.conv.bias": torch.ones(1)}
    return lightning(prefixed(tensors, "_model.backbone.") | heads)


def earlier_classifier(tensors: Tensors) -> Content:
    heads = {"_model.heads.0.conv_classifier_3d.0.weight": torch.ones(256, 32, 1, 1, 1)}
    return lightning(prefixed(encoder(tensors), "_model.backbone.") | heads)

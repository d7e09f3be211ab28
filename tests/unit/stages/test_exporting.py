"""A classifier whose features are the backbone's own, as an ONNX file: with covariates two inputs, without them one."""

from pathlib import Path

import onnxruntime
import pytest
import torch

from fuse_examples.imaging.oai_example.models.heads import ClassificationHeads
from fuse_examples.imaging.oai_example.models.onnx_file import write_onnx
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.stages.exporting import Classifier
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationRecipe, ClassificationTask


@pytest.mark.slow  # an export takes seconds; tests/integration/test_export.py has one with attention
@pytest.mark.parametrize(("pooling", "n_covariates"), [("average", 0), ("max", 3)])
def test_the_backbones_own_pooling(pooling: str, n_covariates: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = UNet3D(width=2, with_decoder=False, pooling=pooling)
    heads = ClassificationHeads(backbone.feature_dim + n_covariates, {"grade": 4, "size": 2}, hidden_dim=5)
    task = ClassificationTask(backbone, heads, {}, ClassificationRecipe(1e-3, 1e-3, 0.0, 0)).eval()
    network, path = Classifier(task, ["size", "grade"]).eval(), tmp_path / "classification.onnx"
    inputs = {"image": (1, 16, 16, 20), **({"covariates": (n_covariates,)} if n_covariates else {})}
    write_onnx(network, path, inputs=inputs, outputs=("logits.size", "logits.grade"), metadata={})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {one.name: one.shape for one in session.get_inputs()} == {name: ["batch", *shape] for name, shape in inputs.items()}
    given = {name: torch.randn(3, *shape) for name, shape in inputs.items()}
    with torch.no_grad():
        expected = task(*given.values())
    found = session.run(None, {name: value.numpy() for name, value in given.items()})
    for name, values in zip(("size", "grade"), found, strict=True):
        assert torch.allclose(torch.from_numpy(values), expected[name], atol=1e-4)

"""A classifier that pools by attention and takes covariates, as an ONNX file with two inputs."""

from pathlib import Path

import onnxruntime
import pytest
import torch

from fuse_examples.imaging.oai_example.models.attention_pooling import AttentionPooling
from fuse_examples.imaging.oai_example.models.heads import ClassificationHeads
from fuse_examples.imaging.oai_example.models.onnx_file import write_onnx
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.stages.exporting import Classifier
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationRecipe, ClassificationTask


@pytest.mark.slow  # an export takes seconds
def test_attention_and_covariates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = UNet3D(width=2, with_decoder=False)
    heads = ClassificationHeads(backbone.feature_dim + 3, {"grade": 4, "size": 2})
    task = ClassificationTask(backbone, heads, {}, ClassificationRecipe(1e-3, 1e-3, 0.0, 0), AttentionPooling(backbone.feature_dim)).eval()
    network, path = Classifier(task, ["size", "grade"]).eval(), tmp_path / "classification.onnx"
    inputs = {"image": (1, 16, 16, 20), "covariates": (3,)}
    write_onnx(network, path, inputs=inputs, outputs=("logits.size", "logits.grade"), metadata={})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {one.name: one.shape for one in session.get_inputs()} == {"image": ["batch", 1, 16, 16, 20], "covariates": ["batch", 3]}
    image, covariates = torch.randn(3, 1, 16, 16, 20), torch.randn(3, 3)
    with torch.no_grad():
        expected = task(image, covariates)
    found = session.run(None, {"image": image.numpy(), "covariates": covariates.numpy()})
    for name, values in zip(("size", "grade"), found, strict=True):
        assert torch.allclose(torch.from_numpy(values), expected[name], atol=1e-4)

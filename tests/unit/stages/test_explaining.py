"""A planted signal: a network that looks at one thing, and a map that must point at it, on the grid of the scan as it came."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.append(str(Path(__file__).parents[2] / "integration"))
from ball_cases import affine_of, save_nifti, write_csv

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.covariates import Covariates
from fuse_examples.imaging.oai_example.data.header_check import check_headers
from fuse_examples.imaging.oai_example.data.preparation import prepare_cases
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, ContinuousTarget, Target
from fuse_examples.imaging.oai_example.evaluation.explained_cases import cases_to_explain
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.models.heads import ClassificationHeads
from fuse_examples.imaging.oai_example.objectives.target_objectives import ClassObjective, GradeObjective, NumberObjective
from fuse_examples.imaging.oai_example.stages.explaining import explain_cases, explanation_map
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationRecipe, ClassificationTask

SHAPE = (20, 36, 33)
SIGNAL = (14, 9, 22)  # the voxel of the scan, in RAS order, that everything depends on
TARGET = Target("KL/side", ("no", "yes"), "yes")


class BrightestVoxel(Backbone):
    """One feature that is the brightest voxel of each cell of 8, and one that is the same everywhere."""

    name = "brightest"
    size_multiple = smallest_size = 8
    encoder_prefixes = ("none.",)
    decoder_prefixes = ()
    feature_dim, decoder_dim = 2, 1

    def __init__(self, pooling: Any = "average") -> None:
        super().__init__({}, pooling=pooling, with_decoder=False)

    def _encode(self, x: Tensor) -> list[Tensor]:
        brightest = F.relu(F.max_pool3d(x, 8) - 0.6)
        return [torch.cat([brightest, torch.ones_like(brightest)], dim=1)]

    def _decode(self, features: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError


def planted_task(pooling: str = "average") -> ClassificationTask:
    """Says yes, with weights that are written down here, where there is a bright voxel."""
    heads = ClassificationHeads(2, {TARGET.name: 2})
    linear = next(module for module in heads.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-1.0, 0.1], [1.0, 0.1]]))
        linear.bias.zero_()
    objectives = {TARGET.name: ClassObjective([1.0, 1.0], positive=1)}
    return ClassificationTask(BrightestVoxel(pooling), heads, objectives, ClassificationRecipe(1e-3, 1e-3, 0, 0)).eval()


def scan(folder: Path, codes: str, turn: float) -> Path:
    image = np.random.default_rng(0).uniform(100, 150, SHAPE)
    x, y, z = SIGNAL
    image[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = 400
    return save_nifti(folder / "scan.nii.gz", image.astype(np.int16), affine_of(turn), codes)


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
@pytest.mark.parametrize(
    ("codes", "turn", "orientation"), [("RAS", 0.0, "RAS"), ("PIR", 0.0, "RAS"), ("LAS", 0.4, "RAS"), ("ASL", -0.3, "LIP")]
)
def test_the_maximum_lies_on_the_planted_signal_on_the_grid_of_the_file(
    tmp_path: Path, method: Any, codes: str, turn: float, orientation: str
) -> None:
    path = scan(tmp_path, codes, turn)
    table = write_csv(tmp_path / "cases.csv", [["P1", "scan.nii.gz", 0, "yes"]], ["PatientID", "path", "fold", TARGET.name])
    cases = read_cases(table, masks=False, targets=[TARGET.name])
    store = VolumeStore(tmp_path / "store", orientation, (0.0, 100.0))
    volumes = prepare_cases(cases, check_headers(cases, csv_path=table), store, table).volumes
    preprocessing = Preprocessing(orientation, "percentile", (0.0, 100.0), None, (29, 44, 40))  # padded, and larger than the scan
    classified = [ClassifiedCase(cases[0].name, "P1", "0", 2, {TARGET.name: "yes"}, {TARGET.name: [0.1, 0.9]})]
    (explained,) = explain_cases(
        [(planted_task(), Covariates())], volumes, preprocessing, classified, [TARGET], method, 3, tmp_path / "test"
    )[TARGET.name]
    (written,) = (tmp_path / "test" / "explanations").iterdir()
    found, source = nibabel.load(written), nibabel.load(path)
    assert written.name == f"{cases[0].name}_KL_side.nii.gz"
    assert found.shape == source.shape
    assert np.allclose(found.affine, source.affine, atol=1e-4)
    assert found.get_data_dtype() == np.float32
    values = found.get_fdata()
    at = np.array(np.unravel_index(values.argmax(), values.shape))
    millimetres = (found.affine @ [*at, 1])[:3] - (affine_of(turn) @ [*SIGNAL, 1])[:3]
    assert np.linalg.norm(millimetres) <= np.linalg.norm(np.array(explained.cell_mm) / 2) + 2
    # Far from it nothing speaks.
    far = np.linalg.norm(
        nibabel.affines.apply_affine(found.affine, np.indices(found.shape).reshape(3, -1).T) - (affine_of(turn) @ [*SIGNAL, 1])[:3], axis=1
    )
    assert values.reshape(-1)[far > 2.5 * max(explained.cell_mm)].max() < 0.25 * values.max()
    assert explained.title == "Right: yes with a probability of 0.90"
    assert explained.values.shape == explained.scan.array.shape == SHAPE
    assert np.unravel_index(explained.values.argmax(), SHAPE) == pytest.approx(SIGNAL, abs=8)


def test_what_speaks_against_the_called_class_is_not_shown() -> None:
    image = torch.zeros(1, 16, 24, 24)
    image[0, 3, 20, 4] = 1.0
    task = planted_task()
    assert explanation_map(task, image, TARGET.name, 1, "gradcam").values.argmax() == np.ravel_multi_index((0, 2, 0), (2, 3, 3))
    for_no = explanation_map(task, image, TARGET.name, 0, "gradcam")
    assert for_no.values.max() == 0  # the bright voxel is all there is, and it speaks against it
    assert explanation_map(task, image, TARGET.name, 0, "occlusion").values.min() < 0


def test_evidence_is_the_log_odds_of_a_class_a_higher_grade_or_a_larger_number() -> None:
    outputs = torch.randn(4, 3)
    odds = outputs.softmax(dim=1)[:, 2]
    assert torch.allclose(ClassObjective([1.0] * 3).evidence(outputs, 2), (odds / (1 - odds)).log(), atol=1e-5)
    assert torch.equal(GradeObjective([1.0] * 4).evidence(outputs, None), outputs.sum(dim=1))
    assert torch.equal(NumberObjective(3.0, 2.0).evidence(outputs[:, :1], None), outputs[:, 0])


def case(name: str, truth: str | None, probabilities: Sequence[float] = (), value: float = 0.0) -> ClassifiedCase:
    return ClassifiedCase(name, name, "0", 2, {"t": truth}, {"t": probabilities}, {"t": value})


def test_the_surest_mistakes_come_first_then_the_surest_right_answers_of_each_class() -> None:
    target = Target("t", ("a", "b"), "b")
    cases = [
        case("w1", "a", [0.4, 0.6]), case("w2", "b", [0.9, 0.1]), case("w3", "a", [0.2, 0.8]), case("r1", "a", [0.7, 0.3]),
        case("r2", "a", [0.99, 0.01]), case("r3", "b", [0.1, 0.9]), case("r4", "b", [0.3, 0.7]), case("none", None, [0.0, 1.0]),
    ]  # fmt: skip
    chosen = cases_to_explain(cases, target, 4)
    assert [one.name for _, one in chosen] == ["w2", "w3", "r2", "r3"]
    assert chosen[0][0] == "Mistake: a with a probability of 0.90, in truth b"
    assert chosen[2][0] == "Right: a with a probability of 0.99"
    assert [one.name for _, one in cases_to_explain(cases, target, 6)] == ["w2", "w3", "w1", "r2", "r3", "r1"]
    assert [one.name for _, one in cases_to_explain(cases[:3], target, 6)] == ["w2", "w3", "w1"]
    assert [one.name for _, one in cases_to_explain(cases[3:5], target, 4)] == ["r2", "r1"]
    assert len(cases_to_explain(cases, target, 100)) == 7


def test_of_numbers_the_largest_errors_come_first_then_the_smallest() -> None:
    cases = [case(f"c{n}", str(50 + error), value=50) for n, error in enumerate((1, -5, 3, 0.5, 8, 2))]
    chosen = cases_to_explain(cases, ContinuousTarget("t"), 4)
    assert [one.name for _, one in chosen] == ["c4", "c1", "c3", "c0"]
    assert chosen[0][0] == "Large error: 50, in truth 58"

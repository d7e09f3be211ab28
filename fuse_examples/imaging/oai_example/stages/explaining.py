"""Where a classifier looked: maps of the cases of a test, written on the scans' own grids, and the same for a single scan."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fuse_examples.imaging.oai_example.data.covariates import Covariates
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCase, EvaluationCases
from fuse_examples.imaging.oai_example.evaluation.classified_cases import AnyTarget, ClassifiedCase, Target
from fuse_examples.imaging.oai_example.evaluation.explained_cases import ExplainedCase, called_class, cases_to_explain
from fuse_examples.imaging.oai_example.evaluation.masks import map_path, write_map
from fuse_examples.imaging.oai_example.geometry.volume import from_file_order, to_source_order
from fuse_examples.imaging.oai_example.inference.explanation import CoarseMap, grad_cam, occlusion
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationTask
from fuse_examples.imaging.oai_example.training.trainer import device_kind

Method = Literal["gradcam", "occlusion"]
Network = tuple[ClassificationTask, Covariates]
"""A classifier and the covariates that it sees."""


def explanation_map(
    task: ClassificationTask, image: Tensor, target: str, called: int | None, method: Method, covariates: Tensor | None = None
) -> CoarseMap:
    """What in an image speaks for a classifier's answer.

    Args:
        task: the classifier, in evaluation mode.
        image: (C, D, H, W), as the network sees it.
        target: the column that was predicted.
        called: index of the class to explain; None for numbers and for grades, whose maps show what speaks for a higher one.
        method: "gradcam" on the backbone's deepest map, or "occlusion".
        covariates: (n,) of the case, where the network sees them.

    Returns:
        The map on the network's input; its `on_grid` brings it to a scan.
    """
    device = next(task.parameters()).device
    batch = image[None].to(device)
    known = None if covariates is None else covariates[None].to(device)
    objective, size = task.objectives[target], image.shape[1:]

    def of_images(images: Tensor) -> Tensor:
        outputs = task(images, None if known is None else known.expand(len(images), -1))
        return objective.evidence(outputs[target], called)

    def of_map(deepest: Tensor) -> Tensor:
        return objective.evidence(task.from_map(deepest, size, known)[target], called)

    if method == "occlusion":
        return occlusion(batch, of_images)
    with torch.no_grad():
        deepest = task.deepest_map(batch)
    return grad_cam(deepest, of_map, size, task.backbone.size_multiple)


def explain_cases(
    networks: Sequence[Network],
    volumes: Sequence[CaseVolumes],
    preprocessing: Preprocessing,
    cases: Sequence[ClassifiedCase],
    targets: Sequence[AnyTarget],
    method: Method,
    count: int,
    folder: Path,
) -> Mapping[str, list[ExplainedCase]]:
    """Explain the chosen cases of each target, write their maps into `folder`, and return them by target.

    Args:
        networks: those whose predictions were averaged; their maps are averaged likewise.
        volumes: the tested cases, with their images in the store.
        preprocessing: what the networks see of an image.
        cases: as they were classified.
        targets: what was predicted.
        method: see `explanation_map`.
        count: cases of each target.
        folder: the test folder.
    """
    device = torch.device(device_kind())
    for task, _ in networks:
        task.to(device).eval()
    rows = {one.case.name: row for row, one in enumerate(volumes)}
    whole = EvaluationCases(volumes, preprocessing)
    explained: dict[str, list[ExplainedCase]] = {}
    for target in targets:
        explained[target.name] = []
        for title, case in cases_to_explain(cases, target, count):
            seen = whole[SampleKey(0, rows[case.name])]
            called = called_class(case, target) if isinstance(target, Target) and not target.ordinal else None
            values, cell = _mean_map(networks, seen, target.name, called, method)
            write_map(map_path(folder, case.name, target.name), to_source_order(values, seen.grid, seen.source), seen.source)
            scan = from_file_order(volumes[rows[case.name]].image().array, seen.grid.affine)
            explained[target.name].append(ExplainedCase(case, title, scan, from_file_order(values, seen.grid.affine).array, cell))
    return explained


def _mean_map(
    networks: Sequence[Network], seen: EvaluationCase, target: str, called: int | None, method: Method
) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """The mean of the networks' maps on the scan's grid, and the largest of their cells in mm along its axes."""
    maps, cells = [], []
    for task, covariates in networks:
        known = torch.as_tensor(covariates.encode(seen.case)) if covariates.columns else None
        coarse = explanation_map(task, seen.image, target, called, method, known)
        maps.append(coarse.on_grid(seen.matrix, seen.grid.shape))
        cells.append(np.array(coarse.step) * np.diag(seen.matrix)[:3] * seen.grid.spacing)
    depth, height, width = np.max(cells, axis=0).tolist()
    return np.mean(maps, axis=0, dtype=np.float32), (depth, height, width)

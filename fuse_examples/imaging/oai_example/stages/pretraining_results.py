"""What a pre-training test leaves behind: the table of features, collapse statistics, probes, and the report with views and a map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.data.multi_crop import MultiCrop
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.evaluation.embedding_map import principal_map
from fuse_examples.imaging.oai_example.evaluation.embeddings import write_embedding_results
from fuse_examples.imaging.oai_example.evaluation.overlay import planes_figure
from fuse_examples.imaging.oai_example.evaluation.pretraining_report import write_pretraining_report
from fuse_examples.imaging.oai_example.evaluation.probes import Embedded
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts
from fuse_examples.imaging.oai_example.geometry.maps import output_affine
from fuse_examples.imaging.oai_example.geometry.volume import Volume, from_file_order


def write_results(
    config: DINOConfig,
    folder: Path,
    embedded: Embedded,
    probes: Mapping[str, Any] | None,
    volumes: Sequence[CaseVolumes],
    preprocessing: Preprocessing,
    facts: RunFacts,
) -> None:
    """Write tables and report into `folder`, and print the statistics.

    Args:
        config: of the test, with what the checkpoint decides.
        folder: the test folder.
        embedded: the test cases and their features.
        probes: the `probes` entry of metrics.json, if any.
        volumes: the test cases' images, of which the first gives the views that are shown.
        preprocessing: the checkpoint's.
        facts: what was run.
    """
    metrics = write_embedding_results(folder, embedded, probes)
    views = planes_figure(views_of(config, volumes[0], preprocessing))
    embedding = principal_map(embedded.features)
    print(f"report: {write_pretraining_report(folder, facts, embedded.cases, metrics, embedding, config.probe_targets or (), views)}")


def views_of(config: DINOConfig, volumes: CaseVolumes, preprocessing: Preprocessing) -> list[tuple[str, Volume]]:
    """A scan and its views as the first epoch would draw them, each where it lies, in RAS order."""
    images = volumes.images()
    shown = [("the scan", from_file_order(images[0].array, images[0].grid.affine))]
    views = MultiCrop(config.crops, config.augmentation, preprocessing)(images, config.seed, SampleKey(0, 0))
    for number, view in enumerate(views):
        large = number < config.crops.n_global
        name = f"large view {number + 1}" if large else f"small view {number + 1 - config.crops.n_global}"
        shown.append((name, from_file_order(view.made()[0].numpy(), output_affine(images[0].grid.affine, view.matrix))))
    return shown

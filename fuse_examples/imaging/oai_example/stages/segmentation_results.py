"""What a segmentation test leaves behind: the table of cases, metrics with intervals, pictures, the report, and a summary to read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import interval_text, three_digits
from fuse_examples.imaging.oai_example.evaluation.segmentation_report import write_segmentation_report
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, write_segmentation_results
from fuse_examples.imaging.oai_example.evaluation.segmentation_writer import example_overlays
from fuse_examples.imaging.oai_example.evaluation.structure_scores import ScoreSettings
from fuse_examples.imaging.oai_example.stages.report_facts import run_facts


def write_results(
    config: SegmentationConfig,
    folder: Path,
    cases: Sequence[CasePrediction],
    volumes: Sequence[CaseVolumes],
    scoring: ScoreSettings,
    notes: Sequence[str],
    environment: Mapping[str, Any],
) -> None:
    """Write everything but the masks, which are there already, into `folder`, and print the table."""
    extra = {one.case.name: one.case.extra for one in volumes}
    cases = [replace(case, groups={name: extra[case.name][name] for name in config.report_by}) for case in cases]
    bootstrap = Bootstrap(n_resamples=config.n_bootstrap, seed=config.seed)
    metrics = write_segmentation_results(folder, cases, config.structures, bootstrap, scoring)
    overlays = example_overlays(folder, cases, {one.case.name: one for one in volumes}, config.structures)
    report = write_segmentation_report(folder, run_facts(config, notes, environment), cases, metrics, overlays)
    for name, entry in metrics["dice"].items():
        dice = f"Dice {three_digits(entry['value'])}   95 % interval {interval_text(entry)}"
        print(f"{name:<28} {dice}   HD95 {three_digits(metrics['hd95_mm'][name]['value'])} mm")
    print(f"report: {report}")

"""What a segmentation test leaves behind: the table of cases, metrics with intervals, pictures, the report, and a summary to read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts, interval_text, three_digits
from fuse_examples.imaging.oai_example.evaluation.segmentation_pictures import case_pictures
from fuse_examples.imaging.oai_example.evaluation.segmentation_report import write_segmentation_report
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, write_segmentation_results
from fuse_examples.imaging.oai_example.evaluation.segmented_cases import read_segmented
from fuse_examples.imaging.oai_example.evaluation.structure_scores import ScoreSettings
from fuse_examples.imaging.oai_example.stages.report_facts import run_facts
from fuse_examples.imaging.oai_example.training.environment import describe_environment
from fuse_examples.imaging.oai_example.training.safe_files import write_json, write_text


def write_results(
    config: SegmentationConfig,
    folder: Path,
    cases: Sequence[CasePrediction],
    volumes: Sequence[CaseVolumes],
    scoring: ScoreSettings,
    facts: RunFacts,
) -> None:
    """Write everything but the masks, which are there already, into `folder`, and print the table."""
    extra = {one.case.name: one.case.extra for one in volumes}
    cases = [replace(case, groups={name: extra[case.name][name] for name in config.report_by}) for case in cases]
    bootstrap = Bootstrap(n_resamples=config.n_bootstrap, seed=config.seed)
    metrics = write_segmentation_results(folder, cases, config.structures, bootstrap, scoring)
    pictures = case_pictures(folder, cases, {one.case.name: one for one in volumes}, config.label_names)
    report = write_segmentation_report(folder, facts, cases, metrics, pictures)
    _print(metrics, report)


def scoring_of(config: SegmentationConfig) -> ScoreSettings:
    """How cases are scored."""
    return ScoreSettings(config.surface_dice_tolerance, config.sheets, config.region_labels, config.label_names if config.regions else ())


def pool_results(config: SegmentationConfig, folders: Sequence[Path], output: Path) -> None:
    """Write the results of all folds' tests together into `output`: what each case was predicted by the run that had not seen it.

    The tables per fold are those of a subgroup; the masks stay in the folds' own folders.
    """
    cases: list[CasePrediction] = []
    for folder in folders:
        found, _ = read_segmented(folder, f"../{folder.parent.name}/{folder.name}/")
        cases += [replace(case, groups={**case.groups, "fold": case.fold}) for case in found]
    notes = [
        f"Pooled out-of-fold predictions of {len(folders)} runs, each tested on the cases that it neither learnt from nor chose by.",
        "Pictures of scans are in the folds' own reports: "
        + ", ".join(f"{folder.parent.name}/{folder.name}/report.html" for folder in folders)
        + ".",
    ]
    environment = describe_environment(seed=config.seed)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "config.yaml", config.as_yaml())
    write_json(output / "environment.json", environment)
    scoring = scoring_of(config)
    bootstrap = Bootstrap(n_resamples=config.n_bootstrap, seed=config.seed)
    metrics = write_segmentation_results(output, cases, config.structures, bootstrap, scoring)
    facts = run_facts(config, notes, environment, runs=[folder.parent for folder in folders])
    _print(metrics, write_segmentation_report(output, facts, cases, metrics, {}))


def _print(metrics: Mapping[str, Any], report: Path) -> None:
    for name, entry in metrics["dice"].items():
        dice = f"Dice {three_digits(entry['value'])}   95 % interval {interval_text(entry)}"
        print(f"{name:<28} {dice}   HD95 {three_digits(metrics['hd95_mm'][name]['value'])} mm")
    print(f"report: {report}")

"""What a classification test leaves behind: the table of cases, metrics with intervals, plots, the report, and a summary to read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.covariates import Covariates
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.targets import LearnedTarget
from fuse_examples.imaging.oai_example.evaluation.baseline_results import Rival
from fuse_examples.imaging.oai_example.evaluation.baseline_table import pooled_rivals, read_baseline_table
from fuse_examples.imaging.oai_example.evaluation.baselines import baselines_from, simple_features
from fuse_examples.imaging.oai_example.evaluation.classification_report import write_classification_report
from fuse_examples.imaging.oai_example.evaluation.classification_results import write_classification_results
from fuse_examples.imaging.oai_example.evaluation.classified_cases import (
    AnyTarget,
    ClassifiedCase,
    ContinuousTarget,
    Target,
    read_classified,
)
from fuse_examples.imaging.oai_example.evaluation.explained_cases import ExplainedCase, explanation_section
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts, interval_text, three_digits
from fuse_examples.imaging.oai_example.stages.report_facts import run_facts
from fuse_examples.imaging.oai_example.training.environment import describe_environment
from fuse_examples.imaging.oai_example.training.safe_files import write_json, write_text

PRINTED = {
    "categorical": ("auc", "average_precision", "balanced_accuracy", "f1"),
    "ordinal": ("quadratic_kappa", "mae", "balanced_accuracy"),
    "continuous": ("mae", "r2", "spearman"),
}
"""By kind of target, the metrics that a test prints."""


class PredictionWriter(BasePredictionWriter):
    """Callback that keeps the predictions of every case.

    Attributes:
        cases: with their predictions, in the order of the table.
    """

    def __init__(self, table: Sequence[Case], targets: Sequence[AnyTarget], report_by: Sequence[str] = ()) -> None:
        super().__init__(write_interval="batch")
        self.numbers = {target.name for target in targets if isinstance(target, ContinuousTarget)}
        self.table = tuple(table)
        self.report_by = tuple(report_by)
        self.cases: list[ClassifiedCase] = []

    def write_on_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *_: Any) -> None:
        """Keep one batch."""
        for position, row in enumerate(prediction["row"].tolist()):
            case = self.table[row]
            found = {target: values[position].tolist() for target, values in prediction["predictions"].items()}
            probabilities = {target: values for target, values in found.items() if target not in self.numbers}
            numbers = {target: found[target][0] for target in self.numbers}
            groups = {name: case.extra[name] for name in self.report_by}
            self.cases.append(ClassifiedCase(case.name, case.patient, case.fold, case.row, case.targets, probabilities, numbers, groups))


def test_targets(learned: Sequence[LearnedTarget], thresholds: Mapping[str, float]) -> list[AnyTarget]:
    """What evaluation must know of each target; `thresholds` are those that validation chose."""
    return [
        Target(one.target, one.classes, one.positive, one.ordinal, thresholds.get(one.target))
        if isinstance(one, ClassIndex)
        else ContinuousTarget(one.target)
        for one in learned
    ]


def rivals_of(project: Mapping[str, Any], volumes: Sequence[CaseVolumes], covariates: Covariates) -> dict[str, list[Rival]]:
    """What the baselines of a checkpoint predict for the tested cases, by target; empty where it has none."""
    baselines = baselines_from(project.get("baselines", {}))
    if not baselines:
        return {}
    features = simple_features(volumes, covariates)
    return {
        target: [Rival(one.name, one.predict(features, len(volumes)), one.threshold) for one in found]
        for target, found in baselines.items()
    }


def write_results(
    config: ClassificationConfig,
    folder: Path,
    cases: Sequence[ClassifiedCase],
    targets: Sequence[AnyTarget],
    facts: RunFacts,
    rivals: Mapping[str, Sequence[Rival]],
    explained: Mapping[str, Sequence[ExplainedCase]],
) -> None:
    """Write tables, plots and report into `folder`, and print the metrics; `explained`: by target, what the report shows of its cases."""
    bootstrap = Bootstrap(n_resamples=config.n_bootstrap, seed=config.seed)
    metrics = write_classification_results(folder, cases, targets, bootstrap, rivals)
    shown = [
        section
        for target in targets
        for section in explanation_section(target, config.explain, explained.get(target.name, ()), 1 / len(targets))
    ]
    report = write_classification_report(folder, facts, cases, targets, metrics, shown)
    for target in targets:
        for name in PRINTED[target.kind]:
            entry = metrics[target.name][name]
            print(f"{target.name:<20} {name:<18} {three_digits(entry['value'])}   95 % interval {interval_text(entry)}")
        for baseline, found in metrics[target.name].get("baselines", {}).items():
            name = PRINTED[target.kind][0]
            difference = found["difference"][name]
            print(
                f"{target.name:<20} {name} minus that of the {baseline}: {three_digits(difference['value'])}   "
                f"95 % interval {interval_text(difference)}"
            )
    print(f"report: {report}")


def pool_results(config: ClassificationConfig, folders: Sequence[Path], output: Path) -> None:
    """Write the results of all folds' tests together into `output`: what each case was predicted by the run that had not seen it.

    The tables per fold are those of a subgroup. Classes are called as each fold's own threshold decided, those of the baselines too, which
    each fold fitted to the cases that it learnt from.
    """
    cases, targets, rivals = [], [], []
    for folder in folders:
        found, learned = read_classified(folder)
        cases += [replace(case, groups={**case.groups, "fold": case.fold}) for case in found]
        rivals.append(read_baseline_table(folder, learned))
        targets = [replace(one, threshold=None) if isinstance(one, Target) else one for one in learned]
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
    facts = run_facts(config, notes, environment, runs=[folder.parent for folder in folders])
    write_results(config, output, cases, targets, facts, pooled_rivals(rivals), {})

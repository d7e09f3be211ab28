"""What a classification test leaves behind: the table of cases, metrics with intervals, plots, the report, and a summary to read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.evaluation.classification_report import write_classification_report
from fuse_examples.imaging.oai_example.evaluation.classification_results import write_classification_results
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, Target
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import interval_text, three_digits
from fuse_examples.imaging.oai_example.stages.report_facts import run_facts


class PredictionWriter(BasePredictionWriter):
    """Callback that keeps the probabilities of every case.

    Attributes:
        cases: with their probabilities, in the order of the table.
    """

    def __init__(self, table: Sequence[Case], report_by: Sequence[str] = ()) -> None:
        super().__init__(write_interval="batch")
        self.table = tuple(table)
        self.report_by = tuple(report_by)
        self.cases: list[ClassifiedCase] = []

    def write_on_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *_: Any) -> None:
        """Keep one batch."""
        for position, row in enumerate(prediction["row"].tolist()):
            case = self.table[row]
            probabilities = {target: values[position].tolist() for target, values in prediction["probabilities"].items()}
            groups = {name: case.extra[name] for name in self.report_by}
            self.cases.append(ClassifiedCase(case.name, case.patient, case.fold, case.row, case.targets, probabilities, groups=groups))


def write_results(
    config: ClassificationConfig,
    folder: Path,
    cases: Sequence[ClassifiedCase],
    classes: Sequence[ClassIndex],
    notes: Sequence[str],
    environment: Mapping[str, Any],
) -> None:
    """Write tables, plots and report into `folder`, and print the metrics."""
    targets = [Target(index.target, index.classes, index.positive) for index in classes]
    metrics = write_classification_results(folder, cases, targets, Bootstrap(n_resamples=config.n_bootstrap, seed=config.seed))
    report = write_classification_report(folder, run_facts(config, notes, environment), cases, targets, metrics)
    for target in targets:
        for name in ("auc", "average_precision", "balanced_accuracy", "f1"):
            entry = metrics[target.name][name]
            print(f"{target.name:<20} {name:<18} {three_digits(entry['value'])}   95 % interval {interval_text(entry)}")
    print(f"report: {report}")

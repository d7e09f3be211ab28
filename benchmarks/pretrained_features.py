"""Do pre-trained features tell a class apart better than an untrained network's, and than columns of the table? `make probe`

    python benchmarks/pretrained_features.py RUN_FOLDER TARGET [key=value ...] [--columns NAME ...] [--networks 10] [--checkpoint best.ckpt]

RUN_FOLDER is the folder of a pre-training experiment, whose settings, with `key=value` laid over them, say which table and folds are
read. A k-NN (`evaluation/probes.py`) learns TARGET from the cases of the training folds and is scored on the patients of the test folds:
on the teacher's features, on those of the same network with random weights (seeds 0, 1, ...), and on the columns, standardised. The random
networks get their normalisation statistics from training volumes, as pre-training does before its first step. Shown is the mean of their
AUCs; the intervals cover patients and which of the networks it was. A linear probe stands beside the k-NN; nothing is required of it.

Ends with 1 where the interval of a difference between AUCs of the k-NN is not above 0, or with fewer than 60 test patients.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate
from fuse_examples.imaging.oai_example.evaluation.probe_rivals import Beside, Pair, beside_rivals, column_features
from fuse_examples.imaging.oai_example.evaluation.probe_watch import embed
from fuse_examples.imaging.oai_example.objectives.norm_statistics import reestimate_statistics
from fuse_examples.imaging.oai_example.stages.beginning import begin_test
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import saved_backbone
from fuse_examples.imaging.oai_example.stages.dino import CHECKPOINT_KEYS, STAGE
from fuse_examples.imaging.oai_example.stages.dino_parts import dino_task, with_decoder_of
from fuse_examples.imaging.oai_example.stages.opening import open_cases
from fuse_examples.imaging.oai_example.stages.probing import probed_classes, whole_volumes
from fuse_examples.imaging.oai_example.stages.starting_weights import refuse_seen_patients
from fuse_examples.imaging.oai_example.stages.stored_cases import store_cases
from fuse_examples.imaging.oai_example.tasks.dino import DINOTask
from fuse_examples.imaging.oai_example.tasks.first_batches import STATISTICS_VOLUMES
from fuse_examples.imaging.oai_example.training.trainer import build_trainer

FEWEST_PATIENTS = 60


@torch.no_grad()
def with_statistics(task: DINOTask, data: VolumeDataModule) -> DINOTask:
    """The task with its teacher's normalisation statistics measured on training volumes."""
    n_batches = -(-STATISTICS_VOLUMES // (data.evaluation_batch_size or 1))
    images = (batch["image"] for batch in islice(data.predict_dataloader(), n_batches))
    task.eval()
    reestimate_statistics(task.teacher_backbone, task.teacher_backbone.embed, images, always=True)
    return task


def compare(options: argparse.Namespace) -> bool:
    """Print the table; return whether the features win."""
    words = [f"test_ckpt={options.run / 'checkpoints' / options.checkpoint}", "dino_weights=null", "suprem_weights=null"]
    words += ["resume_training_from=null", f"probe_targets=[{options.target}]", *options.words]
    start = begin_test(load_config(DINOConfig, options.run / "config.yaml", words, files_must_exist=True), STAGE, CHECKPOINT_KEYS)
    config, project = start.config, start.project
    cases = open_cases(config, masks=False, targets=[options.target], extra=options.columns, train_in_test=True)
    (index,) = probed_classes(config, cases)
    refuse_seen_patients(cases.evaluation, project["patients"], start.tested, config)
    stored, preprocessing = store_cases(config, cases, None), Preprocessing.from_dict(project["preprocessing"])
    known, asked = (whole_volumes(config, volumes, preprocessing) for volumes in (stored.train, stored.evaluation))

    def task() -> DINOTask:
        return dino_task(config, saved_backbone(project, with_decoder=with_decoder_of(config)))

    def features(network: DINOTask) -> Pair:
        with build_trainer(folder=options.run, n_epochs=1, precision=config.precision).precision_plugin.forward_context():
            return embed(network, known), embed(network, asked)

    teacher = task()
    start.fill(teacher)
    own, networks = features(teacher), []
    for seed in range(options.networks):
        torch.manual_seed(seed)
        networks.append(features(with_statistics(task(), known)))
    rivals: dict[str, Sequence[Pair]] = {f"{options.networks} random networks": networks}
    if options.columns:
        of_cases = [[one.case for one in volumes] for volumes in (stored.train, stored.evaluation)]
        rivals[" and ".join(options.columns)] = [column_features(*of_cases, options.columns, config.csv_path)]
    auc, found = beside_rivals(own, rivals, index)
    print(f"{options.target}: k-NN, learnt from {len(own[0].cases)} cases, on {auc.n_cases} cases of {auc.n_patients} test patients")
    print_table(auc, found)
    print("linear probe")
    print_table(*beside_rivals(own, rivals, index, "linear_auc"))
    if auc.n_patients < FEWEST_PATIENTS:
        print(f"FAILED: {auc.n_patients} test patients; at least {FEWEST_PATIENTS}")
    beaten = [name for name, one in found.items() if one.is_beaten]
    for name in found:
        print(f"{'ok    ' if name in beaten else 'FAILED'} the k-NN is better on the teacher's features than on {name}: interval above 0")
    return auc.n_patients >= FEWEST_PATIENTS and len(beaten) == len(found)


def print_table(auc: Estimate, found: dict[str, Beside]) -> None:
    print(f"  {'teacher':<36} AUC {shown(auc)}")
    for name, one in found.items():
        print(f"  {name:<36} AUC {shown(one.auc)}   difference {shown(one.difference.estimate)}")
        if len(one.members) > 1:
            print(f"  {'':<36} each " + ", ".join("-" if value is None else f"{value:.3f}" for value in one.members))


def shown(one: Estimate) -> str:
    if one.value is None or one.low is None or one.high is None:
        return one.note if one.value is None else f"{one.value:.3f} ({one.note})"
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pre-trained features beside a random network's and columns of the table.")
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER", help="folder of a pre-training experiment")
    parser.add_argument("target", metavar="TARGET", help="categorical column of the run's table")
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings laid over the run's, such as test_folds=[3]")
    parser.add_argument("--columns", nargs="*", default=[], metavar="NAME", help="columns of numbers to compare with")
    parser.add_argument("--networks", type=int, default=10, metavar="N", help="random networks")
    parser.add_argument("--checkpoint", default="best.ckpt", metavar="NAME", help="file in RUN_FOLDER/checkpoints")
    return parser.parse_args()


def main() -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # each network's trainer would say what device it has
    if not compare(parsed()):
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(run_entry(main))

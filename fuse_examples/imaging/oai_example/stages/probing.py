"""Where pre-training meets labelled columns: classes, whole volumes and probes of the features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex, check_classes, check_validation, learn_classes
from fuse_examples.imaging.oai_example.data.classification_views import LabelledVolumes
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.evaluation.feature_pictures import MOST_CASES, FeaturePictures
from fuse_examples.imaging.oai_example.evaluation.probe_watch import ProbeWatch
from fuse_examples.imaging.oai_example.evaluation.probes import RULES, Embedded, probe
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases


def probed_classes(config: DINOConfig, cases: OpenedCases) -> tuple[ClassIndex, ...]:
    """The classes of each of `probe_targets`, learnt from the training cases.

    Raises:
        DataError: as `learn_classes` and `check_classes`; in training as `check_validation`, since the best probe chooses `best.ckpt`.
    """
    if config.probe_targets is None:
        return ()
    classes = learn_classes(cases.train, config.probe_targets, None, config.csv_path)
    name = "the validation folds" if config.test_ckpt is None else "the test folds"
    check_classes({name: cases.evaluation}, classes, config.csv_path)
    if config.test_ckpt is None:
        check_validation(cases.evaluation, classes, config.csv_path)
    return classes


def whole_volumes(config: DINOConfig, volumes: Sequence[CaseVolumes], preprocessing: Preprocessing) -> VolumeDataModule:
    """Volumes as the backbone is to embed them: whole, at the size of large views, in the order of the table."""
    images = LabelledVolumes(volumes, preprocessing)
    return VolumeDataModule(None, images, 1, config.n_workers, config.seed, evaluation_batch_size=config.batch_size)


def probe_watch(
    config: DINOConfig, data: VolumeDataModule, preprocessing: Preprocessing, classes: Sequence[ClassIndex], folder: Path
) -> list[ProbeWatch]:
    """The callback that probes the teacher; none without `probe_targets`."""
    if not classes or data.evaluation is None:
        return []
    known, asked = (whole_volumes(config, volumes, preprocessing) for volumes in (data.training_volumes, data.evaluation.volumes))
    return [ProbeWatch(config.probe_every_n_epochs, known, asked, classes, folder)]


def feature_pictures(
    config: DINOConfig,
    backbone: Backbone,
    data: VolumeDataModule,
    preprocessing: Preprocessing,
    classes: Sequence[ClassIndex],
    folder: Path,
) -> FeaturePictures:
    """The callback that shows the features of validation cases, or of training cases where there are none."""
    volumes = data.evaluation.volumes if data.evaluation is not None else data.training_volumes
    shown = whole_volumes(config, volumes[:MOST_CASES], preprocessing)
    return FeaturePictures(config.log_images_every_n_epochs, backbone, shown, classes, folder)


def probe_results(known: Embedded, asked: Embedded, classes: Sequence[ClassIndex]) -> Mapping[str, Any]:
    """The `probes` entry of a test's metrics.json: target -> probe -> value with interval, and how they are made."""
    found = {index.target: {name: one.as_dict() for name, one in probe(known, asked, index).items()} for index in classes}
    return {**found, "rules": RULES}

"""The segmentation stage: a frozen configuration in, a trained or tested segmenter's run folder out."""

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback, EarlyStopping

from fuse_examples.imaging.oai_example.configuration.precedence import check_resume, from_checkpoint
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes, prepare_cases
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCases, SegmentationTrainingViews
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.evaluation.pictures import SegmentationPictures
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone, check_size
from fuse_examples.imaging.oai_example.models.heads import SegmentationHead
from fuse_examples.imaging.oai_example.objectives.segmentation_loss import DiceCELoss
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import project_entry, read_stage_checkpoint, saved_config
from fuse_examples.imaging.oai_example.stages.fitting import fit_run
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases, open_cases
from fuse_examples.imaging.oai_example.stages.resolution import backbone_options, resolve_preprocessing, resolved
from fuse_examples.imaging.oai_example.tasks.segmentation import SegmentationRecipe, SegmentationTask
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.run import Run
from fuse_examples.imaging.oai_example.training.seeding import seed_run

STAGE = "segmentation"
log = logging.getLogger(__name__)


def train_or_test(config: SegmentationConfig, *, check: bool = False) -> None:
    """Train and validate; or, with `test_ckpt`, evaluate the test folds. With `check`, try one batch and say what the run would do."""
    with Interruption() as interruption:
        if config.test_ckpt is not None:
            test(config)
        else:
            train(config, interruption)


def train(config: SegmentationConfig, interruption: Interruption) -> None:
    """Train a segmenter in its run folder."""
    ...

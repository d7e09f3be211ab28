"""The settings that all stages share."""

from pathlib import Path
from typing import ClassVar, Literal

from fuse_examples.imaging.oai_example.configuration import rules
from fuse_examples.imaging.oai_example.configuration.blocks import IntensitySettings, SeriesSettings, StoreSettings
from fuse_examples.imaging.oai_example.configuration.kinds import (
    Auto,
    AxisCodes,
    BackboneName,
    Columns,
    Count,
    Flag,
    Folder,
    FolderName,
    Folds,
    InputFile,
    InputFiles,
    NotNegative,
    Options,
    Positive,
    PositiveNumber,
    Text,
)
from fuse_examples.imaging.oai_example.configuration.script_config import ScriptConfig
from fuse_examples.imaging.oai_example.configuration.settings import (
    REQUIRED,
    data,
    machine,
    run,
    training,
    volumes,
    weights,
)


class StageConfig(ScriptConfig):
    """What every stage is told. A stage's own class adds its settings, its rules and the text of its `--help`."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = (
        rules.one_source_of_weights,
        rules.auto_or_overwrite,
        rules.folds_of_the_run,
        rules.window_and_its_method,
        rules.options_without_a_key_of_their_own,
        rules.clearml_needs_a_project,
        rules.synchronised_statistics_are_of_several,
    )

    experiment: FolderName = run(REQUIRED, "Name of the experiment; also of its folder in results_dir.")
    results_dir: Folder = run(Path("results"), "Folder of all experiments; `tensorboard --logdir` on it shows them side by side.")
    overwrite: Flag = run(False, "Whether to train into an experiment that has checkpoints already, and lose them.")
    test_ckpt: InputFiles | None = run(
        None,
        "null: train and validate. A checkpoint: evaluate the cases of test_folds with it. A list of checkpoints: with the mean of their "
        "probabilities.",
    )
    resume_training_from: InputFile | Auto | None = run(
        None,
        "Checkpoint of an interrupted or finished run to carry on from. auto: the newest of this experiment, or a new run where there is "
        "none; dino_weights and suprem_weights then count for the new run alone.",
    )
    seed: Count = run(0, "Seed of every random draw: the same seed gives the same run.")

    csv_path: InputFile = data(REQUIRED, "Table of the cases; the paths in it are relative to its own folder.")
    train_folds: Folds = data((), "Values of the column `fold` to train on.")
    val_folds: Folds = data((), "Values of the column `fold` to validate on after an epoch.")
    test_folds: Folds = data((), "Values of the column `fold` to evaluate when test_ckpt is set.")
    allow_patient_overlap: Flag = data(False, "Whether a patient may have rows in more than one of training, validation and test.")
    allow_pretraining_overlap: Flag = data(False, "Whether test patients may be among those whose images the weights have learnt from.")
    channels: Columns | None = data(
        None, "Columns of images that become the network's input channels, in this order. null: the one image column alone."
    )
    series: SeriesSettings = data(
        SeriesSettings,
        "Which volume is read where a DICOM folder holds several. With none of the keys set several are an error that lists them.",
    )
    tolerate_uneven_spacing: Flag = data(
        False, "Whether unevenly spaced slices are read as if they were even, with a warning. Missing slices are an error all the same."
    )
    on_bad_case: Literal["stop", "skip"] = data(
        "stop",
        "stop: a case whose voxels cannot be used is an error. skip: up to 1 % of the cases are put aside and listed in bad_cases.csv. "
        "What headers show is an error in both.",
    )

    backbone: BackboneName | None = weights(None, "The network. null: as the weights were made, else unet3d.", null_means="unet3d")
    width: Positive | None = weights(None, "Channels of the backbone's first level. null: as the weights were made, else its own.")
    norm_statistics: Literal["running", "batch", "instance"] | None = weights(
        None,
        "Statistics of batch normalisation. running: averages kept in training. batch: of the batch, always. instance: of each sample. "
        "null: as the weights were made, else the backbone's own.",
    )
    backbone_options: Options | None = weights(
        None,
        "Further options of the backbone, such as {depth: 34} of resnet3d; a wrong name is answered with those it has. null: as the "
        "weights were made, else its own.",
    )
    gradient_checkpointing: Flag = weights(
        False, "Whether to compute maps again in the backward pass instead of keeping them: less memory, more time, the same result."
    )
    suprem_weights: InputFile | None = weights(
        None, "SuPreM checkpoint, or other published weights, to start from. Set at most one source of weights."
    )
    dino_weights: InputFile | None = weights(None, "Pre-trained backbone to start from: backbone.safetensors or a checkpoint of dino.py.")

    orientation: AxisCodes | None = volumes(
        None, "Direction of the three array axes, for example RAS. null: as the weights were made, else RAS.", null_means="RAS"
    )
    intensity: IntensitySettings = volumes(IntensitySettings, "How intensities are normalised, once per volume.")
    store: StoreSettings = volumes(StoreSettings, "Where preprocessed volumes are kept.")

    batch_size: Positive = training(2, "Cases per step.")
    n_epochs: Positive = training(100, "Passes over the training cases.")
    learning_rate: PositiveNumber = training(3e-4, "Highest learning rate of AdamW; it follows a cosine down to zero.")
    weight_decay: NotNegative = training(0.01, "Weight decay of AdamW.")
    warmup_epochs: Count = training(5, "Epochs over which the learning rate rises from zero.")
    grad_clip: PositiveNumber | None = training(1.0, "Largest norm of the gradient; longer ones are scaled down. null: no limit.")
    accumulate_grad_batches: Positive = training(1, "Batches whose gradients are added up before each step.")
    save_every_n_steps: Positive | None = training(None, "Write last.ckpt also every so many steps. null: at the end of an epoch only.")

    precision: Literal["auto", "fp32", "bf16"] = machine("auto", "auto: bf16 where the device is good at it, else fp32.")
    devices: Positive | Auto = machine(
        1, "Processes to train with on each machine: one a GPU, or on the CPU without GPUs. batch_size counts for each. auto: all GPUs."
    )
    num_nodes: Positive = machine(1, "Machines to train with, started together by torchrun or SLURM.")
    strategy: Literal["auto", "ddp"] = machine("auto", "How several processes work together. auto: ddp where there are several.")
    sync_batchnorm: Flag = machine(
        False, "Whether batch normalisation takes its statistics over all GPUs, with norm_statistics: running; not on CPUs."
    )
    augment_on: Literal["auto", "cpu", "gpu"] = machine(
        "auto",
        "Where training views are made. cpu: by the workers. gpu: workers cut out voxels, the GPU does the rest. auto: gpu where there is "
        "one. Noise has other numbers on a GPU.",
    )
    n_workers: Count = machine(2, "Processes that load and augment cases; 0: the training process itself. Batches do not depend on it.")
    log_images_every_n_epochs: Count = machine(
        5, "Pictures of volumes, and in pre-training of features, for TensorBoard every so many epochs; 0: none."
    )
    clearml: Flag = machine(False, "Whether to report to ClearML as well as to TensorBoard.")
    clearml_project_name: Text | None = machine(None, "ClearML project; needed with clearml: true.")
    clearml_upload_images: Flag = machine(False, "Whether pictures of scans may leave this machine for the ClearML server.")

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """The files of test_ckpt: none, one or several."""
        if self.test_ckpt is None:
            return ()
        return self.test_ckpt if isinstance(self.test_ckpt, tuple) else (self.test_ckpt,)

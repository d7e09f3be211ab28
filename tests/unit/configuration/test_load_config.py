"""Every mistake of a file at once, at its line, in words a person can act on."""

import pickle
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.errors import ConfigError

GOOD = """\
experiment: knee
csv_path: data/cases.csv
train_folds: [0, 1]
val_folds: [2]
num_classes: 3
resize_to: [16, 32, 32]
"""


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, *words: str) -> SegmentationConfig:
    Path("cfg.yaml").write_text(text)
    return load_config(SegmentationConfig, Path("cfg.yaml"), words)


def problems(text: str, *words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, *words)
    return list(caught.value.problems)


def problem(line: str, *words: str) -> str:
    """The one mistake of a good file with one more line, without its place."""
    found = problems(GOOD + line, *words)
    assert len(found) == 1, found
    place, text = found[0].split(": ", 1)
    assert place.startswith("cfg.yaml:")
    return text


def test_five_mistakes_are_reported_together_in_file_order() -> None:
    text = GOOD + "learnig_rate: 1e-4\nbatch_size: two\nsuprem_weights: a.pth\ndino_weights: b.ckpt\nseed: 1\nseed: 2\nn_workers: true\n"
    assert problems(text) == [
        "cfg.yaml:7: unknown key 'learnig_rate'; did you mean 'learning_rate'?",
        "cfg.yaml:8: batch_size: must be a whole number of at least 1 or null, found 'two'",
        "cfg.yaml:10: suprem_weights and dino_weights are set together (lines 9 and 10); set at most one of suprem_weights, dino_weights, "
        "resume_training_from and test_ckpt, the others to null",
        "cfg.yaml:12: the key 'seed' is repeated; it was set on line 11 already",
        "cfg.yaml:13: n_workers: must be a whole number of at least 0, found true",
    ]


def test_mistakes_of_the_file_come_before_those_of_the_words() -> None:
    assert problems(GOOD + "seed: -1\n", "precision=fp16", "seed=x", "batch=2") == [
        "command line: precision=fp16: precision: must be 'auto', 'fp32' or 'bf16', found 'fp16'; did you mean 'bf16'?",
        "command line: seed=x: seed: must be a whole number of at least 0, found 'x'",
        "command line: batch=2: unknown key 'batch'; did you mean 'batch_size'?",
    ]
    assert problems(GOOD + "seed: -1\n", "batch=2")[0] == "cfg.yaml:7: seed: must be a whole number of at least 0, found -1"


def test_missing_keys_are_named_with_their_meaning() -> None:
    assert problems("") == [
        "cfg.yaml: the key 'experiment' is missing: Name of the experiment; also of its folder in results_dir.",
        "cfg.yaml: the key 'csv_path' is missing: Table of the cases; the paths in it are relative to its own folder.",
        "cfg.yaml: the key 'num_classes' is missing: Number of labels in the masks, the background (0) included.",
        "cfg.yaml: train_folds is empty; name the folds to train on, or set test_ckpt to evaluate",
        "cfg.yaml: val_folds is empty; the best epoch is chosen by validation, so name at least one fold",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n_epochs: 2.0", "n_epochs: must be a whole number of at least 1, found 2.0; write 2"),
        ("n_epochs: '2'", "n_epochs: must be a whole number of at least 1, found '2'; write it without quotes"),
        ("n_epochs: true", "n_epochs: must be a whole number of at least 1, found true"),
        ("n_epochs:", "n_epochs: must be a whole number of at least 1, found nothing (null)"),
        ("n_epochs: 0", "n_epochs: must be a whole number of at least 1, found 0"),
        ("weight_decay: false", "weight_decay: must be a number of at least 0, found false"),
        ("learning_rate: .nan", "learning_rate: must be a number above 0, found nan"),
        ("learning_rate: .inf", "learning_rate: must be a number above 0, found inf"),
        ("clearml_project_name: {" + ", ".join(f"k{i}: {i}" for i in range(30)) + "}",
         "clearml_project_name: must be text or null, found {k0: 0, k1: 1, k2: 2, k3: 3, k4: 4, k5: 5, k6: 6, k7: 7, k8: 8, k9: 9, "
         "k10:  ...; put a text that holds a colon in quotes"),
        ("learning_rate: [1]", "learning_rate: must be a number above 0, found [1]"),
        ("overwrite: 1", "overwrite: must be true or false, found 1"),
        ("overwrite: yes", "overwrite: must be true or false, found 'yes'"),
        ("test_folds: 3", "test_folds: must be a list of folds, found 3; write test_folds: [3]"),
        ("test_folds: [0, 0.0]", "test_folds: must not name anything twice, found '0' 2 times"),
        ("test_folds: [0, '']", "test_folds: a fold must be text or a number, found nothing"),
        ("test_folds: [0, .nan]", "test_folds: a fold must be text or a number, found nan"),
        ("patch_size: [8, 8]", "patch_size: must be a list of 3 whole numbers of at least 1 or null, found [8, 8]"),
        ("patch_size: [8, 8, 8, 8]", "patch_size: must be a list of 3 whole numbers of at least 1 or null, found [8, 8, 8, 8]"),
        ("patch_size: [8, x, 1.5]", "patch_size: must be a list of 3 whole numbers of at least 1 or null, found [8, 'x', 1.5]"),
        ("precision: bf61", "precision: must be 'auto', 'fp32' or 'bf16', found 'bf61'; did you mean 'bf16'?"),
        ("backbone: unet", "backbone: must be 'unet3d', 'swin_unetr', 'segresnet' or 'resnet3d', found 'unet'; did you mean 'unet3d'?"),
        ("backbone: 3", "backbone: must be 'unet3d', 'swin_unetr', 'segresnet', 'resnet3d' or null, found 3"),
        ("structure_names: [a, 2]", "structure_names: must be a list of texts or null, found ['a', 2]"),
        ("structure_names: [a, a]", "structure_names: must not name anything twice, found 'a' 2 times"),
        ("results_dir: ~nobody-by-this-name/r",
         "results_dir: names the home folder of a user who does not exist, found '~nobody-by-this-name/r'"),
        ("dino_weights: https://x.org/a.pth", "dino_weights: must be a file on this machine, found the URL 'https://x.org/a.pth'; "
         "download it first"),
        ("dino_weights: ' '", "dino_weights: must be a path, found an empty text; write null for none"),
        ("orientation: RRS", "orientation: must be three axis codes, one each of R or L, A or P, S or I (for example RAS or PIR), "
         "found 'RRS'"),
        ("intensity: zscore", "intensity: must be a block of keys (method, percentiles, window), found 'zscore'"),
        ("intensity:", "intensity: must be a block of keys (method, percentiles, window), found nothing (null)"),
        ("intensity: {percentiles: [1, 101]}", "intensity.percentiles: must be a list of 2 numbers from 0 to 100 or null, found [1, 101]"),
        ("intensity: {percentiles: [9, 1]}", "intensity.percentiles: must be [low, high], found [9.0, 1.0]"),
        ("intensity: {percentiles: [9, 9]}", "intensity.percentiles: must be [low, high] with low below high, found [9.0, 9.0]"),
        ("intensity: {methd: zscore}", "unknown key 'intensity.methd'; did you mean 'intensity.method'?"),
        ("method: zscore", "unknown key 'method'; did you mean 'intensity.method'?"),
        ("lr: 0.1", "unknown key 'lr'; did you mean 'learning_rate'?"),
        ("xyzzy: 0.1", "unknown key 'xyzzy'; --help lists all keys"),
        ("seed: !!python/object:os.system x", "the tag !!python/object:os.system is not allowed; write a plain value"),
    ],
)  # fmt: skip
def test_the_text_of_a_mistake(line: str, message: str) -> None:
    assert problem(line) == message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2024", "experiment: must be a folder name, found 2024; put it in quotes: '2024'"),
        ("a/b", "experiment: must be a plain folder name, without slashes and not starting with a dot, found 'a/b'"),
        (".store", "experiment: must be a plain folder name, without slashes and not starting with a dot, found '.store'"),
    ],
)
def test_the_experiment_is_a_folder_name(name: str, message: str) -> None:
    assert problems(GOOD.replace("knee", name)) == [f"cfg.yaml:1: {message}"]


def test_a_mistake_inside_a_list_or_block_has_its_own_line() -> None:
    text = GOOD + "augmentation:\n  flip_axes:\n    - left_right\n    - updown\n  noise_std: -1\ntest_folds:\n  - 1\n  - null\n"
    assert [found.split(": ")[:2] for found in problems(text)] == [
        ["cfg.yaml:10", "augmentation.flip_axes"],
        ["cfg.yaml:11", "augmentation.noise_std"],
        ["cfg.yaml:14", "test_folds"],
    ]


def test_values_are_what_the_yaml_says() -> None:
    config = load(GOOD + "learning_rate: 1e-4\nweight_decay: 0\ntest_folds: ['a', 3.0]\norientation: pir\ngrad_clip: null\n")
    assert (config.learning_rate, config.weight_decay, config.grad_clip) == (1e-4, 0, None)
    assert isinstance(config.weight_decay, float)
    assert (config.train_folds, config.test_folds, config.orientation) == (("0", "1"), ("a", "3"), "PIR")
    assert (config.csv_path, config.resize_to) == (Path("data/cases.csv"), (16, 32, 32))
    assert config.structures == ("structure_1", "structure_2")


def test_a_word_wins_over_the_file_also_inside_a_block() -> None:
    config = load(
        GOOD + "batch_size: 8\nintensity: {method: zscore}\n",
        "batch_size=3", "intensity.method=window", "intensity.window=[-100, 1e2]", "experiment='7'", "csv_path=other/x.csv",
    )  # fmt: skip
    assert (config.batch_size, config.intensity.method, config.intensity.window) == (3, "window", (-100, 100))
    assert (config.experiment, config.csv_path) == ("7", Path("other/x.csv"))


def test_a_good_word_mends_a_bad_line() -> None:
    assert load(GOOD + "batch_size: two\n", "batch_size=3").batch_size == 3


def test_a_word_into_something_that_is_no_block() -> None:
    assert problems(GOOD + "intensity: zscore\nbatch_size: 3\n", "intensity.window=[0, 1]", "batch_size.x=4") == [
        "cfg.yaml:7: intensity: must be a block of keys (method, percentiles, window), found 'zscore'",
        "command line: batch_size.x=4: batch_size: must be a whole number of at least 1 or null, found {x: 4}",
    ]
    assert load(GOOD + "intensity:\n", "intensity.method=zscore").intensity.method == "zscore"
    assert problems(GOOD + "intensity: !!python/x y\n", "intensity.method=zscor") == [
        "cfg.yaml:7: the tag !!python/x is not allowed; write a plain value",
        "command line: intensity.method=zscor: intensity.method: must be 'percentile', 'window', 'zscore' or null, found 'zscor'; did you "
        "mean 'zscore'?",
    ]


def test_every_value_knows_where_it_came_from() -> None:
    config = load(GOOD + "intensity:\n  method: window\n", "intensity.window=[0, 1]", "store={path: /tmp/x}")
    places = {key: (config.origin(key).kind, config.origin(key).text)
              for key in ("experiment", "seed", "intensity.method", "intensity.window", "store.path")}  # fmt: skip
    assert places == {
        "experiment": ("file", "cfg.yaml:1"),
        "seed": ("default", "default"),
        "intensity.method": ("file", "cfg.yaml:8"),
        "intensity.window": ("command line", "command line: intensity.window=[0, 1]"),
        "store.path": ("command line", "command line: store={path: /tmp/x}"),
    }
    with pytest.raises(KeyError, match="no setting 'sed'; did you mean 'seed'"):
        config.origin("sed")


def test_a_dumped_configuration_is_plain_and_loads_as_itself() -> None:
    config = load(GOOD + "learning_rate: 1e-5\nstructure_names: ['no', '1e-4']\n")
    assert yaml.safe_load(yaml.safe_dump(config.dump())) == config.dump()
    again = load(config.as_yaml())
    assert again.dump() == config.dump()
    assert again.structures == ("no", "1e-4")


def test_a_configuration_cannot_change_and_travels_to_worker_processes() -> None:
    config = load(GOOD)
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.intensity.method = "zscore"
    assert pickle.loads(pickle.dumps(config)).origin("experiment") == config.origin("experiment")


def test_a_missing_file_names_the_nearest() -> None:
    load(GOOD)
    with pytest.raises(
        ConfigError, match=r"^cgf\.yaml: cannot read the configuration file: No such file or directory; did you mean 'cfg\.y"
    ):
        load_config(SegmentationConfig, Path("cgf.yaml"))
    with pytest.raises(ConfigError, match=r"^\.: cannot read the configuration file: Is a directory"):
        load_config(SegmentationConfig, Path("."))


def test_a_syntax_error_has_its_line_and_the_words_are_still_read() -> None:
    assert problems("experiment: knee\ncsv_path: [a\nseed: 1\n", "sed") == [
        "cfg.yaml:3: not valid YAML: while parsing a flow sequence expected ',' or ']', but got ':'",
        "command line: sed: not of the form key=value",
    ]

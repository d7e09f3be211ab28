"""TensorBoard's HParams tab: an entry for each run, in the place of earlier ones."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from fuse_examples.imaging.oai_example.training.grid_board import write_grid


def entry(folder: Path) -> tuple[dict[str, object], dict[str, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    data = plugin_data_pb2.HParamsPluginData()
    data.ParseFromString(events.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    settings = {name: value.string_value or value.number_value for name, value in data.session_start_info.hparams.items()}
    return settings, {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


def test_each_run_has_its_settings_and_figures_once(tmp_path: Path) -> None:
    rows = [(f"dino_seed{seed}", {"initialisation": "dino", "seed": seed}, {"test/mean Dice": 0.25 * seed}) for seed in (1, 2)]
    write_grid(tmp_path, rows)
    write_grid(tmp_path, rows)
    assert entry(tmp_path / "dino_seed2") == ({"initialisation": "dino", "seed": 2.0}, {"test/mean Dice": 0.5})
    assert entry(tmp_path / "dino_seed1")[1] == {"test/mean Dice": 0.25}
    assert len(list(tmp_path.glob("*/events.out.tfevents.*"))) == 2

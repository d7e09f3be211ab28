"""The keys of reading, from the configuration to the voxels, and from the checkpoint to a test."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import small_stages
from pydicom.dataset import Dataset
from series_files import series_in


@pytest.fixture(scope="module")
def echoes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases of three folds, each a DICOM folder with two echoes whose slices are uneven by a quarter; the second echo is the scan."""
    table = small_stages.write_cases(tmp_path_factory.mktemp("scans"), 2)
    rows = list(csv.DictReader(table.open()))
    places = np.arange(small_stages.SHAPE[0]) * 2.0
    places[5] += 0.5
    for row in rows:
        scan = np.asarray(nibabel.load(table.parent / row["path"]).dataobj).astype(np.int16)
        for number, values in ((1, scan[:, ::-1] // 2), (2, scan)):

            def change(dataset: Dataset, index: int, number: int = number) -> None:
                dataset.EchoNumbers, dataset.EchoTime = number, str(5 * number)

            series_in(table.parent / row["PatientID"], values, along=places, change=change, file_name=lambda i, n=number: f"{n}_{i}")
        row["path"] = row["PatientID"]
    return small_stages.write_table(table, rows)


def test_training_and_testing_read_the_series_that_is_asked_for(echoes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def start(*words: str, **changes: object) -> tuple[int, str]:
        return small_stages.start("dino", echoes, tmp_path / "results", *words, **changes), capfd.readouterr().err

    code, message = start()
    assert code == 2
    assert message.count("holds 2 volumes") == 4
    code, message = start(series={"echo": 2})
    assert code == 2
    assert message.count("the slices are unevenly spaced") == 4

    assert start(series={"echo": 2}, tolerate_uneven_spacing=True)[0] == 0
    run = tmp_path / "results" / "dino"
    log = (run / "log.txt").read_text()
    assert "echo 2, echo time 10.00 ms: 16 slices" in log
    stored = [json.loads(path.read_text())["statistics"] for path in (tmp_path / "results" / ".store").glob("*/facts.json")]
    assert len(stored) == 4

    # The checkpoint knows: a YAML file that says nothing or something else reads the same echo, a word that differs is a mistake.
    word = f"test_ckpt={run / 'checkpoints' / 'last.ckpt'}"
    code, message = start(word)
    assert code == 0, message
    first = (run / "test" / "embeddings.csv").read_text()
    code, message = start(word, series={"echo": 1})
    assert code == 0, message
    assert "series.echo: 1 is passed over; the checkpoint was made with 2" in (run / "test" / "log.txt").read_text()
    assert (run / "test" / "embeddings.csv").read_text() == first
    code, message = start(word, "series.echo=1")
    assert code == 2
    assert "series.echo: the checkpoint was made with 2, which a test cannot change; leave the word out" in message

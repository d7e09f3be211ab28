"""The table of features and the figures of collapse."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.evaluation.embeddings import EmbeddingWriter, write_embedding_results
from fuse_examples.imaging.oai_example.evaluation.probes import Embedded


def cases(n: int) -> list[Case]:
    return [Case(row + 2, f"case{row}", f"patient{row // 2}", Path("x"), None, "4", {}) for row in range(n)]


class Doubler(pl.LightningModule):
    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (batch * 2).to(torch.bfloat16)


def test_features_of_all_batches_are_kept_in_order() -> None:
    rows = torch.arange(10.0).view(5, 2)
    writer = EmbeddingWriter()
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    pl.Trainer(accelerator="cpu", callbacks=[writer], **silent).predict(Doubler(), DataLoader(rows, batch_size=2), return_predictions=False)  # type: ignore[arg-type]
    assert writer.features().dtype == torch.float32
    assert torch.equal(writer.features(), rows * 2)


def test_the_table_and_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    metrics = write_embedding_results(tmp_path, Embedded(cases(5), features.numpy()))
    rows = list(csv.DictReader((tmp_path / "embeddings.csv").open()))
    assert [(row["case"], row["PatientID"], row["fold"], row["row"]) for row in rows] == [
        ("case0", "patient0", "4", "2"),
        ("case1", "patient0", "4", "3"),
        ("case2", "patient1", "4", "4"),
        ("case3", "patient1", "4", "5"),
        ("case4", "patient2", "4", "6"),
    ]
    written = np.array([[float(row[f"feature_{index}"]) for index in range(3)] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(written, features.numpy())
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert (metrics["n_cases"], metrics["n_patients"], metrics["n_features"]) == (5, 3, 3)
    assert capsys.readouterr().out == f"effective rank {metrics['effective_rank']:.1f} of 5 cases' features (3 dimensions)\n"


def test_collapsed_features_show(tmp_path: Path) -> None:
    metrics = write_embedding_results(tmp_path, Embedded(cases(6), (torch.ones(6, 1) * torch.tensor([1.0, 2.0, 3.0])).numpy()))
    assert metrics["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert metrics["mean_std"] == pytest.approx(0, abs=1e-6)


def test_as_many_features_as_cases_or_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        write_embedding_results(tmp_path, Embedded(cases(3), torch.ones(2, 4).numpy()))
    assert list(tmp_path.iterdir()) == []

"""Features of pre-trained networks: the table of test cases, and whether the features have collapsed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor

from fuse_examples.imaging.oai_example.evaluation.probes import Embedded
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_json, write_table
from fuse_examples.imaging.oai_example.objectives.collapse import dimension_std, effective_rank

RULES = {
    "effective_rank": "exponential of the entropy of the normalised singular values of the features (RankMe, Garrido et al. 2023)",
    "mean_std": "features brought to length 1 first; mean over dimensions of the standard deviation over cases (Chen & He 2021): 0 is "
    "collapse, 1 / sqrt(n_features) directions that are spread evenly",
}


class EmbeddingWriter(BasePredictionWriter):
    """Callback that keeps the features of every case, in the order of the table."""

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self._features: list[Tensor] = []

    def write_on_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *_: Any) -> None:
        """Keep the features (B, F) of one batch."""
        self._features.append(prediction.float().cpu())

    def features(self) -> Tensor:
        """(n, F) float32."""
        return torch.cat(self._features)


def write_embedding_results(folder: Path, embedded: Embedded, probes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write embeddings.csv (a row per case) and metrics.json (collapse statistics) into `folder`; print and return the statistics.

    Args:
        folder: the test folder.
        embedded: the test cases and their features (n, F).
        probes: the entry `probes` of the statistics, if any.
    """
    cases, features = embedded.cases, torch.from_numpy(embedded.features)
    header = ["case", "PatientID", "fold", "row", *(f"feature_{index}" for index in range(features.shape[1]))]
    rows = ([case.name, case.patient, case.fold, case.row, *values] for case, values in zip(cases, features.tolist(), strict=True))
    write_table(folder / "embeddings.csv", header, rows)
    metrics = {
        "n_cases": len(cases),
        "n_patients": len({case.patient for case in cases}),
        "n_features": features.shape[1],
        "effective_rank": float(effective_rank(features)),
        "mean_std": float(dimension_std(features).mean()),
        "rules": RULES,
        **({"probes": dict(probes)} if probes else {}),
    }
    write_json(folder / "metrics.json", metrics)
    print(f"effective rank {metrics['effective_rank']:.1f} of {len(cases)} cases' features ({features.shape[1]} dimensions)")
    for target, found in (probes or {}).items():
        if target != "rules":
            print(f"{target}: " + ", ".join(f"{name} {one['value']}" for name, one in found.items()))
    return metrics

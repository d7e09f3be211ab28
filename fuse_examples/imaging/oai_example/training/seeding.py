"""Random numbers of the main process: seeding them, keeping them in a checkpoint, and what can be said about repeating a run.

Samples draw from (seed, epoch, row, view) and do not use these; weights, dropout and noise on the device do.
"""

import random
from typing import Any

import numpy as np
import torch


def seed_run(seed: int, rank: int = 0) -> None:
    """Seed Python's, NumPy's and torch's generators; each rank of a distributed run draws its own dropout."""
    own = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)


def random_state() -> dict[str, Any]:
    """Return the state of all generators as tensors and plain Python values, which a safe load takes."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(cached)],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set all generators to a state of `random_state`; CUDA's only where the number of devices is the same."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device.cpu() for device in state["cuda"]])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))


def determinism_status(device: str) -> str:
    """Say in a sentence how far a run of the same seed on the same machine repeats itself. `device`: "cpu", "cuda" or "mps"."""
    if torch.are_deterministic_algorithms_enabled():
        return "deterministic algorithms are on: the same seed, machine and versions give the same weights"
    if device == "cpu":
        return f"CPU with {torch.get_num_threads()} threads: the same seed, versions and number of threads give the same weights"
    return f"{device}: the same seed gives the same batches; weights differ in the last digits, because some kernels add in varying order"

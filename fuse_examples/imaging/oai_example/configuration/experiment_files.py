"""What earlier runs have left of an experiment."""

from pathlib import Path


def checkpoint_files(results_dir: Path, experiment: str) -> list[Path]:
    """The checkpoints that training runs of an experiment have left, the newest first."""
    files = (results_dir / experiment / "checkpoints").glob("*.ckpt")
    return sorted(
        (file for file in files if not file.name.startswith(".")), key=lambda file: (file.stat().st_mtime_ns, file.name), reverse=True
    )

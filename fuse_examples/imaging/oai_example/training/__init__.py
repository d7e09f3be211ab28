"""What surrounds a run: folder, seeds, signals, checkpoints, trackers, trainer."""

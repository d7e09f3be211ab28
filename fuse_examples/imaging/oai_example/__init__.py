"""Pre-training and fine-tuning of 3D medical images."""

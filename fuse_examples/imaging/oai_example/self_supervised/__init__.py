"""Entry script of pre-training."""

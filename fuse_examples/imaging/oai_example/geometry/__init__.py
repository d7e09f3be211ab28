"""Volumes, affine maps, the one resampling and its inverse. Knows no file format."""

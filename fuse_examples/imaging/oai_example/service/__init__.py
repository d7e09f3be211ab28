"""Predictions for other programs: a function, and the same as an MCP server (`python -m fuse_examples.imaging.oai_example.service`)."""

from fuse_examples.imaging.oai_example.service.predicting import predict

__all__ = ["predict"]

"""Backbones, heads, weight loading."""

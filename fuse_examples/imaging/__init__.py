"""Imaging examples."""

"""Namespace of the examples."""

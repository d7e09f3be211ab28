"""Command lines that make or check data."""

"""Predictions, one case at a time, to tables, intervals, plots, masks on disk and a report."""

"""From a CSV row to a batch: case table, folds, readers, store, views, data module."""

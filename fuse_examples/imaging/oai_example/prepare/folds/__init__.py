"""Folds that no patient crosses, with the classes spread evenly."""

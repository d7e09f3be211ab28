"""Segmentations of the knee that came as outlines (iMorphics) or as arrays (IWOAI), turned into NIfTI masks on their series' grids."""

"""A drawn knee joint: its shape, its tissues on a voxel grid, the scanners that image it and the files they write."""

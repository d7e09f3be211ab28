"""A study of label efficiency: its grid, its cells as ordinary runs, and what they found."""

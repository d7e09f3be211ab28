"""Data sets that come as a folder with `dataset.json`: the Medical Segmentation Decathlon's and nnU-Net's."""

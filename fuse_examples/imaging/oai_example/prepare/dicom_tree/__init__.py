"""A tree of DICOM files of any shape, turned into series that each have a folder of their own."""

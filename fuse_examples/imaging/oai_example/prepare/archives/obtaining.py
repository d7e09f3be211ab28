"""From what the user names, a folder, an archive or an address, to the folder of a task."""

from pathlib import Path

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.archives.decathlon import task_folder
from fuse_examples.imaging.oai_example.prepare.archives.download import fetch, is_url
from fuse_examples.imaging.oai_example.prepare.archives.unpacking import is_archive, unpack

PUBLISHED_MD5 = {
    "Task01_BrainTumour.tar": "240a19d752f0d9e9101544901065d872",
    "Task02_Heart.tar": "06ee59366e1e5124267b774dbd654057",
    "Task03_Liver.tar": "a90ec6c4aa7f6a3d087205e23d4e6397",
    "Task04_Hippocampus.tar": "9d24dba78a72977dbd1d2e110310f31b",
    "Task05_Prostate.tar": "35138f08b1efaef89d7424d2bcc928db",
    "Task06_Lung.tar": "8afd997733c7fc0432f71255ba4e52dc",
    "Task07_Pancreas.tar": "4f7080cfca169fa8066d17ce6eb061e4",
    "Task08_HepaticVessel.tar": "641d79e80ec66453921d997fbf12a29c",
    "Task09_Spleen.tar": "410d4a301da4e5b2f6f86ec3ddba524e",
    "Task10_Colon.tar": "bad7a188931dc2f6acf72b08eb6202d0",
}
"""Checksums of the Decathlon's archives, as MONAI's `DecathlonDataset` publishes them; they hold for downloads under these names."""


def obtain(source: str, folder: Path, *, checksum: str | None = None) -> Path:
    """Return the folder that holds `dataset.json`; downloads and unpacks into `folder` what is not there yet.

    Raises:
        DataError: nothing at `source`, or no task in it.
    """
    path = fetch(source, folder, checksum=checksum or PUBLISHED_MD5.get(source.rpartition("/")[2])) if is_url(source) else Path(source)
    if not path.exists():
        raise DataError(f"{source}: does not exist.")
    if path.is_dir():
        return task_folder(path)
    if not is_archive(path):
        raise DataError(f"{path}: is neither a folder nor a tar or zip archive.")
    unpacked = folder / path.name.split(".")[0]
    if not unpacked.exists():  # a folder that is there is whole
        unpack(path, unpacked)
    return task_folder(unpacked)

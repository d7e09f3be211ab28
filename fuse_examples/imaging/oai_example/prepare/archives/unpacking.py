"""Archives unpacked so that nothing lands outside the folder meant, and an interrupted unpacking leaves nothing that looks whole."""

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from tqdm import tqdm

from fuse_examples.imaging.oai_example.errors import DataError


def is_archive(path: Path) -> bool:
    """Whether the file's content is a tar archive, compressed or not, or a zip archive."""
    return path.is_file() and (tarfile.is_tarfile(path) or zipfile.is_zipfile(path))


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into `folder`, which appears only when everything is in it; return `folder`.

    Names and links that lead out of it, and devices, are refused. Files that macOS adds (._*) are left out.

    Raises:
        DataError: what is not an archive, is damaged, or holds such a name.
    """
    unfinished = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        if tarfile.is_tarfile(archive):
            _unpack_tar(archive, unfinished)
        elif zipfile.is_zipfile(archive):
            _unpack_zip(archive, unfinished)
        else:
            raise DataError(f"{archive}: is neither a tar nor a zip archive.")
        os.replace(unfinished, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}). Download it again if it is damaged.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        for member in tqdm(file, desc=f"Unpacking {archive.name}", unit="file", disable=None, leave=False):
            if not _is_dropping(member.name):
                file.extract(member, folder, filter="data")


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for name in tqdm(file.namelist(), desc=f"Unpacking {archive.name}", unit="file", disable=None, leave=False):
            if _is_dropping(name):
                continue
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise DataError(f"{archive}: {name} leads out of the folder.")
            file.extract(name, folder)


def _is_dropping(name: str) -> bool:
    return any(part.startswith("._") or part == "__MACOSX" for part in Path(name).parts)

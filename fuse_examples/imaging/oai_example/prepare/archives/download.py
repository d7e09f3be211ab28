"""A file fetched over HTTP: resumed where it stopped, checked, and named so only when it is whole."""

import hashlib
import os
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from fuse_examples.imaging.oai_example.errors import DataError

BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte
DIGESTS = {32: "md5", 64: "sha256"}  # by the number of hexadecimal digits


def is_url(text: str) -> bool:
    """Whether `text` is an address that `fetch` takes."""
    return text.lower().startswith(("http://", "https://"))


def fetch(url: str, folder: Path, *, checksum: str | None = None) -> Path:
    """Return the file behind `url`, in `folder` under its own name; what is there already is not fetched again.

    What an earlier attempt left is continued if the server's file has not changed since. The length that the server names is checked
    always, `checksum` (MD5 or SHA-256, told apart by length) where it is given.

    Raises:
        DataError: an address without a file name, no answer, a broken connection, a wrong length or checksum.
    """
    digest = _digest_name(checksum)
    name = Path(unquote(urlsplit(url).path)).name
    if not name or name.startswith("."):
        raise DataError(f"{url}: does not end in the name of a file.")
    target = folder / name
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{name}.partial"
        _download(url, partial)
        _verify(partial, checksum, digest, url)
        os.replace(partial, target)
        (folder / f"{name}.version").unlink(missing_ok=True)
    else:
        _verify(target, checksum, digest, url)
    return target


def _digest_name(checksum: str | None) -> str:
    digest = DIGESTS.get(len(checksum or ""), "")
    if checksum and (not digest or any(letter not in "0123456789abcdef" for letter in checksum.lower())):
        raise DataError(f"--checksum {checksum}: is neither an MD5 (32 hexadecimal digits) nor a SHA-256 (64).")
    return digest


def _download(url: str, partial: Path) -> None:
    version = partial.with_suffix(".version")
    done = partial.stat().st_size if partial.exists() and version.exists() else 0
    headers = {"User-Agent": "oai-pretraining"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": version.read_text()}
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            expected = _length(answer) + (done if resumed else 0)
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            if tag and not tag.startswith("W/"):  # only a strong tag says that the rest belongs to the beginning
                version.write_text(tag)
            else:
                version.unlink(missing_ok=True)
            _receive(answer, partial, done if resumed else 0, expected)
    except HTTPError as error:
        if error.code == 416:  # what is there is longer than the file: begin again
            partial.unlink()
            version.unlink(missing_ok=True)
        raise DataError(f"{url}: the server answers {error.code} {error.reason}. Check the address, or try again.") from error
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DataError(f"{url}: cannot be downloaded ({reason}). Run the same command again; it goes on where it stopped.") from error


def _length(answer: HTTPResponse) -> int:
    return int(answer.headers.get("Content-Length") or -1)


def _receive(answer: HTTPResponse, partial: Path, done: int, expected: int) -> None:
    total = expected if expected > 0 else None
    with (
        partial.open("ab" if done else "wb") as file,
        tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=partial.stem, disable=None, leave=False) as bar,
    ):
        while block := answer.read(BLOCK):
            file.write(block)
            bar.update(len(block))
    if total and partial.stat().st_size != total:
        raise ConnectionError(f"{partial.stat().st_size} of {total} bytes came")


def _verify(path: Path, checksum: str | None, digest: str, url: str) -> None:
    if not checksum:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, digest).hexdigest()
    if found == checksum.lower():
        return
    if path.suffix == ".partial":
        path.unlink()
        path.with_suffix(".version").unlink(missing_ok=True)
    problem = f"{url}: the {digest.upper()} checksum of the file is {found}, not {checksum}."
    raise DataError(f"{problem} Download it again, or pass the right --checksum.{f' Remove {path} first.' if path.exists() else ''}")

"""What a caller of the service may name, and what is refused: elsewhere, links that lead out, and things that are no files."""

import os
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.service.allowed_paths import AllowedFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "scans" / "knee").mkdir(parents=True)
    (tmp_path / "root" / "scans" / "knee" / "1.dcm").write_bytes(b"x")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "scan.nii").write_bytes(b"secret")
    (tmp_path / "rootless").mkdir()  # a neighbour whose name begins alike
    return tmp_path / "root"


def refusal(root: Path, text: str) -> str:
    with pytest.raises(UserError) as error:
        AllowedFolder.of(root, "--root").existing(text)
    return str(error.value)


def test_paths_inside_are_taken_relative_or_absolute(root: Path) -> None:
    allowed = AllowedFolder.of(root, "--root")
    assert allowed.existing("scans/knee") == allowed.existing(str(root / "scans" / "knee")) == (root / "scans" / "knee").resolve()
    assert allowed.existing("scans/../scans/knee/1.dcm").name == "1.dcm"
    assert allowed.existing(".") == root.resolve()
    assert allowed.place("new/folder") == root.resolve() / "new" / "folder"
    (root / "link").symlink_to(root / "scans")
    assert allowed.existing("link/knee") == (root / "scans" / "knee").resolve()  # a link that stays inside


@pytest.mark.parametrize("text", ["..", "../secret/scan.nii", "scans/../../secret/scan.nii", "../rootless", "/etc/hostname"])
def test_paths_elsewhere_are_refused(root: Path, text: str) -> None:
    assert refusal(root, text) == f"{text}: lies outside --root, or a link on the way leads out. Name a path inside it."
    with pytest.raises(UserError, match="lies outside"):
        AllowedFolder.of(root, "--root").place(text)  # as an output


def test_links_that_lead_out_are_refused_wherever_they_are(root: Path) -> None:
    secret = root.parent / "secret"
    (root / "out").symlink_to(secret)
    assert "lies outside --root" in refusal(root, "out")
    assert "lies outside --root" in refusal(root, "out/scan.nii")
    (root / "scans" / "knee" / "2.dcm").symlink_to(secret / "scan.nii")
    told = "is a link that leads out of --root. Take it away, or copy what it leads to."
    assert refusal(root, "scans") == f"{Path('scans/knee/2.dcm')}: {told}"
    (root / "scans" / "knee" / "2.dcm").unlink()
    (root / "scans" / "deep").symlink_to(secret)  # a folder
    assert refusal(root, "scans") == f"{Path('scans/deep')}: {told}"
    (root / "scans" / "deep").unlink()
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(secret)  # by way of a link inside
    assert "lies outside --root" in refusal(root, "one")


def test_what_is_no_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "scans" / "pipe")  # reading it would wait for ever
    assert refusal(root, "scans") == "scans/pipe: is neither a file nor a folder. Take it away."
    assert refusal(root, "missing") == "missing: does not exist in --root."
    assert refusal(root, "") == "'' is no path."
    assert refusal(root, "a\0b") == "'a\\x00b' is no path."
    with pytest.raises(UserError, match=r"--root: .*1\.dcm is not a folder"):
        AllowedFolder.of(root / "scans" / "knee" / "1.dcm", "--root")


def test_what_no_file_system_can_follow_is_refused(root: Path) -> None:
    long = "a" * 5000
    for text, shown in ((long, "a" * 200 + "..."), ("x/" + long, "x/" + "a" * 198 + "..."), ("\udcff\ud800", r"\udcff\ud800")):
        told = refusal(root, text)
        assert told.startswith(f"{shown}: cannot be followed (") or told == f"{shown}: does not exist in --root."
    assert refusal(root, "../" * 5000 + "etc").startswith("../" * 66 + "..")
    assert len(refusal(root, "../" * 5000 + "etc")) < 400
    (root / "scans" / "knee" / "loop").symlink_to("loop")
    for text in ("scans/knee/loop", "scans"):
        told = refusal(root, text)
        assert told.startswith("scans/knee/loop: ")
        assert "cannot be followed" in told or "does not exist" in told


def test_a_root_that_is_a_link_is_what_it_leads_to(root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    allowed = AllowedFolder.of(root.parent / "alias", "--root")
    assert allowed.existing("scans").is_relative_to(root.resolve())

"""A Decathlon task from folder, archive and a server on this machine, and nnU-Net folders of both generations, to CSV files."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import nibabel
import numpy as np
import pytest

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.header_check import check_headers, check_masks
from fuse_examples.imaging.oai_example.data.scans import read_volume
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare import decathlon, nnunet
from fuse_examples.imaging.oai_example.prepare.archives.download import fetch
from fuse_examples.imaging.oai_example.prepare.archives.unpacking import unpack

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def save(path: Path, seed: int, *, mask: bool = False, channels: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shape = (5, 6, 4, channels) if channels else (5, 6, 4)
    values = rng.integers(0, 3, (5, 6, 4)).astype(np.uint8) if mask else rng.integers(0, 999, shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)


def decathlon_task(folder: Path, *, channels: int = 0) -> Path:
    names = [f"hippocampus_{number:03d}" for number in range(1, 8)]
    for number, name in enumerate(names):
        save(folder / "imagesTr" / f"{name}.nii.gz", number, channels=channels)
        save(folder / "labelsTr" / f"{name}.nii.gz", number, mask=True)
        (folder / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"macOS")
    save(folder / "imagesTs" / "hippocampus_900.nii.gz", 900, channels=channels)
    training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    content = {
        "name": "Hippocampus",
        "tensorImageSize": "3D",
        "modality": {str(k): name for k, name in enumerate(("T1w", "ADC", "ADC")[: max(channels, 1)])},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": training,
        "test": ["./imagesTs/hippocampus_900.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def packed(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w") as file:
        file.add(folder, folder.name)
    return archive


def check_tables(folder: Path, rows: int = 7) -> None:
    """The stages' own reading of both tables, headers and masks included."""
    cases = read_cases(folder / "segmentation.csv", masks=True)
    assert len(cases) == rows
    check_headers(cases, csv_path=folder / "segmentation.csv")
    check_masks(cases, 3, csv_path=folder / "segmentation.csv")
    images = read_cases(folder / "self_supervised.csv", masks=False)
    check_headers(images, csv_path=folder / "self_supervised.csv")
    folds = {case.patient: case.fold for case in images}
    assert {case.patient: case.fold for case in cases}.items() <= folds.items()


def test_a_decathlon_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = decathlon_task(tmp_path / "Task04_Hippocampus")
    assert decathlon.main([str(folder), "--folds", "3"]) == 0
    shown = capsys.readouterr().out
    assert "unlabelled       1           0" in shown
    assert 'num_classes=3 structure_names="[Anterior, Posterior]"' in shown
    check_tables(folder)
    (ending,) = [case for case in read_cases(folder / "self_supervised.csv", masks=False) if case.patient == "hippocampus_900"]
    assert ending.fold == "unlabelled"
    assert decathlon.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{folder / 'segmentation.csv'}: exists already." in error
    assert f"{folder / 'self_supervised.csv'}: exists already." in error
    assert decathlon.main([str(folder), "--overwrite"]) == 0


def test_channels_are_cut_apart(tmp_path: Path) -> None:
    folder = decathlon_task(tmp_path / "Task05_Prostate", channels=3)
    output = tmp_path / "out"
    assert decathlon.main([str(folder), "--output", str(output)]) == 0
    check_tables(output)
    assert (output / "segmentation.csv").read_text().splitlines()[0] == "PatientID,img_path,seg_path,fold,ADC_1,ADC_2"
    whole = np.asanyarray(nibabel.load(folder / "imagesTr" / "hippocampus_001.nii.gz").dataobj)
    for channel in range(3):
        part = read_volume(output / "channels" / f"hippocampus_001_{channel:04d}.nii.gz").array
        np.testing.assert_array_equal(part, whole[..., channel])
    again = (output / "channels" / "hippocampus_001_0000.nii.gz").stat().st_mtime_ns
    assert decathlon.main([str(folder), "--output", str(output), "--overwrite"]) == 0
    assert (output / "channels" / "hippocampus_001_0000.nii.gz").stat().st_mtime_ns == again


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_is_unpacked_once(tmp_path: Path, kind: str) -> None:
    folder = decathlon_task(tmp_path / "Task04_Hippocampus")
    archive = tmp_path / f"Task04_Hippocampus.{kind}"
    if kind == "tar":
        packed(folder, archive)
    else:
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*.*")):
                file.write(path, path.relative_to(tmp_path))
    output = tmp_path / "out"
    assert decathlon.main([str(archive), "--output", str(output)]) == 0
    check_tables(output)
    assert not list(output.rglob("._*"))
    unpacked = output / "Task04_Hippocampus" / "Task04_Hippocampus" / "dataset.json"
    before = unpacked.stat().st_mtime_ns
    assert decathlon.main([str(archive), "--output", str(output), "--overwrite"]) == 0
    assert unpacked.stat().st_mtime_ns == before


class Server(BaseHTTPRequestHandler):
    """A file server that knows ranges and can break off in the middle."""

    content = b""
    tag = '"v1"'
    break_after: int | None = None
    ranges: list[str | None] = []  # noqa: RUF012  # reset by each test
    sent: list[int] = []  # noqa: RUF012

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).ranges.append(asked)
        if self.path.endswith("gone.tar"):
            self.send_error(404)
            return
        start = int(asked.split("=")[1].rstrip("-")) if asked and self.headers.get("If-Range") == self.tag else 0
        body = self.content[start:]
        type(self).sent.append(len(body))
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.break_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.content, Server.tag, Server.break_after, Server.ranges, Server.sent = b"", '"v1"', None, [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_download_goes_on_where_it_stopped(tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    Server.content = packed(decathlon_task(tmp_path / "Task"), tmp_path / "Task.tar").read_bytes()
    Server.break_after = 5000
    checksum = hashlib.sha256(Server.content).hexdigest()
    output = tmp_path / "out"
    words = [f"{server}/data/Task.tar?x=1", "--output", str(output), "--checksum", checksum]
    assert decathlon.main(words) == 2
    assert "cannot be downloaded" in capsys.readouterr().err
    assert not (output / "Task.tar").exists()
    Server.break_after = None
    assert decathlon.main(words) == 0
    assert Server.ranges == [None, "bytes=5000-"]
    assert Server.sent == [len(Server.content), len(Server.content) - 5000]
    assert (output / "Task.tar").read_bytes() == Server.content
    check_tables(output)
    assert decathlon.main([*words, "--overwrite"]) == 0
    assert len(Server.ranges) == 2  # it was there


def test_a_file_that_changed_on_the_server_begins_again(tmp_path: Path, server: str) -> None:
    Server.content, Server.break_after = b"a" * 9000, 4000
    with pytest.raises(DataError):
        fetch(f"{server}/x.tar", tmp_path)
    Server.content, Server.tag, Server.break_after = b"b" * 9000, '"v2"', None
    assert fetch(f"{server}/x.tar", tmp_path).read_bytes() == b"b" * 9000


def test_a_wrong_checksum_leaves_nothing_to_trust(tmp_path: Path, server: str) -> None:
    Server.content = b"other"
    with pytest.raises(DataError, match=r"the MD5 checksum of the file is .*, not 0{32}\."):
        fetch(f"{server}/x.tar", tmp_path, checksum="0" * 32)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="the server answers 404"):
        fetch(f"{server}/gone.tar", tmp_path)
    with pytest.raises(DataError, match="is neither an MD5"):
        fetch(f"{server}/x.tar", tmp_path, checksum="abc")


def test_a_decathlon_archive_is_held_to_its_published_checksum(tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    Server.content = b"not the hippocampus"
    assert decathlon.main([f"{server}/Task04_Hippocampus.tar", "--output", str(tmp_path)]) == 2
    assert "not 9d24dba78a72977dbd1d2e110310f31b" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside_of_everything.txt", "link"])
def test_nothing_is_unpacked_outside(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as file:
        member = tarfile.TarInfo(name)
        member.size = 3
        if name == "link":
            member.type, member.linkname, member.size = tarfile.SYMTYPE, "..", 0
        file.addfile(member, io.BytesIO(b"bad"))
    (tmp_path / "in").mkdir()
    if name.startswith("/"):  # the data filter strips the slash, as tar itself does
        unpack(tmp_path / "bad.tar", tmp_path / "in" / "x")
        assert not Path(name).exists()
        return
    with pytest.raises(DataError):
        unpack(tmp_path / "bad.tar", tmp_path / "in" / "x")
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "outside.txt").exists()


def nnunet_set(folder: Path, labels: dict[str, object], extra: dict[str, object], channels: int = 1, test_masks: bool = True) -> Path:
    for number in range(6):
        for channel in range(channels):
            save(folder / "imagesTr" / f"oaizib_{number:03d}_{channel:04d}.nii.gz", 10 * number + channel)
        save(folder / "labelsTr" / f"oaizib_{number:03d}.nii.gz", number, mask=True)
    for channel in range(channels):
        save(folder / "imagesTs" / f"oaizib_404_{channel:04d}.nii.gz", 404 + channel)
    if test_masks:
        save(folder / "labelsTs" / "oaizib_404.nii.gz", 404, mask=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, **extra}))
    return folder


def test_nnunet_of_both_generations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = nnunet_set(
        tmp_path / "Dataset004",
        {"background": 0, "femur": 1, "femoral cartilage": 2},
        {"channel_names": {"0": "DESS"}, "file_ending": ".nii.gz"},
    )
    one = nnunet_set(tmp_path / "Task104", {"0": "background", "1": "femur", "2": "femoral cartilage"}, {"modality": {"0": "MRI"}})
    for folder in (one, two):
        assert nnunet.main([str(folder)]) == 0
        assert 'structure_names="[femur, femoral_cartilage]"' in capsys.readouterr().out
        check_tables(folder, rows=7)
        assert [case.fold for case in read_cases(folder / "segmentation.csv", masks=True)][-1] == "test"


def test_nnunet_channels_patients_and_published_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = nnunet_set(tmp_path / "set", {"background": 0, "a": 1, "b": 2}, {"channel_names": {"0": "T1", "1": "T2"}}, 2, test_masks=False)
    names = [f"oaizib_{number:03d}" for number in range(6)]
    splits = tmp_path / "splits_final.json"
    splits.write_text(json.dumps([{"train": names[3:], "val": names[:3]}, {"train": names[:3], "val": names[3:]}]))
    assert nnunet.main([str(folder), "--splits", str(splits), "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Further channels are in the columns T2." in shown
    assert "segmentation.csv --channels img_path T2\n" in shown
    assert 'channels="[img_path, T2]"' in shown
    cases = read_cases(tmp_path / "segmentation.csv", masks=True)
    assert [case.fold for case in cases] == ["0", "0", "0", "1", "1", "1"]
    line = (tmp_path / "segmentation.csv").read_text().splitlines()[1]
    assert line == "oaizib_000,set/imagesTr/oaizib_000_0000.nii.gz,set/labelsTr/oaizib_000.nii.gz,0,set/imagesTr/oaizib_000_0001.nii.gz"
    words = [str(folder), "--patient", r"_\d(\d)", "--output", str(tmp_path / "grouped")]
    assert nnunet.main([*words, "--folds", "2"]) == 2
    assert "1 patient cannot be spread over 2 folds" in capsys.readouterr().err
    assert nnunet.main([*words, "--splits", str(splits)]) == 2
    assert "1 patient would stand in more than one of the folds that the data set prescribes, for example 0." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "labelsTr" / "oaizib_001.nii.gz").unlink(), "oaizib_001.nii.gz: does not exist."),
        (lambda folder: (folder / "imagesTr" / "oaizib_001_0000.nii.gz").unlink(), "oaizib_001.nii.gz: has no image in imagesTr."),
        (lambda folder: save(folder / "imagesTr" / "oaizib_001_0001.nii.gz", 1), "case oaizib_001 has the channels [0, 1]."),
        (lambda folder: (folder / "dataset.json").unlink(), "holds no dataset.json."),
        (lambda folder: (folder / "dataset.json").write_text('{"labels": {"background": 0, "both": [1, 2]}}'), "label 'both' is a region"),
        (lambda folder: (folder / "dataset.json").write_text('{"labels": {"background": 0, "ignore": 1}}'), "label 1 means 'ignore'"),
        (lambda folder: (folder / "dataset.json").write_text('{"labels": {"0": "background", "2": "b"}}'), "names no label 1;"),
        (
            lambda folder: (folder / "dataset.json").write_text('{"labels": {"0": "b"}, "file_ending": ".mha"}'),
            "file_ending is .mha; only NIfTI",
        ),
        (lambda folder: (folder / "dataset.json").write_text("{"), "cannot be read as the description of a data set"),
        (lambda folder: (folder / "dataset.json").write_text("[]"), "(it is a list, not an object of names and values)."),
    ],
)
def test_mistakes_in_nnunet_folders(spoil, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    folder = nnunet_set(tmp_path / "set", {"background": 0, "a": 1}, {"channel_names": {"0": "T1"}})
    spoil(folder)
    assert nnunet.main([str(folder)]) == 2
    assert message in capsys.readouterr().err


def test_mistakes_in_decathlon_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = decathlon_task(tmp_path / "Task")
    (folder / "labelsTr" / "hippocampus_003.nii.gz").unlink()
    assert decathlon.main([str(folder)]) == 2
    assert "case hippocampus_003:" in capsys.readouterr().err
    assert decathlon.main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere: does not exist." in capsys.readouterr().err
    (tmp_path / "x.tar").write_bytes(b"x")
    assert decathlon.main([str(tmp_path / "x.tar")]) == 2
    assert "is neither a folder nor a tar or zip archive." in capsys.readouterr().err

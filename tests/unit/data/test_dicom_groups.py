"""Which volume of a folder is read: by description, echo and size, and what is said where that does not pick one."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from series_files import CORONAL

from fuse_examples.imaging.oai_example.data.reading import Reading, SeriesChoice
from fuse_examples.imaging.oai_example.data.scans import read_header, read_mask, read_volume
from fuse_examples.imaging.oai_example.errors import DataError

Write = Callable[..., Path]


def chosen(**conditions: object) -> Reading:
    return Reading(SeriesChoice(**conditions))


def marked(**values: object) -> Callable[[Dataset, int], None]:
    def change(dataset: Dataset, index: int) -> None:
        for key, value in values.items():
            setattr(dataset, key, value)

    return change


def refusal(folder: Path, reading: Reading) -> str:
    for read in (read_volume, read_header):
        with pytest.raises(DataError) as error:
            read(folder, reading)
    return str(error.value)


@pytest.fixture
def three(write_series: Write, ramp: np.ndarray) -> Path:
    """Two echoes of a DESS of 5 slices (values ramp and ramp + 100) and a coronal series of 4 (ramp + 200)."""
    folder = write_series(ramp, change=marked(EchoNumbers=1, EchoTime="10"))
    write_series(ramp + 100, change=marked(EchoNumbers=2, EchoTime="20"), file_name=lambda index: f"e{index}")
    coronal = marked(SeriesInstanceUID="1.2.3", SeriesDescription="COR_IW_TSE")
    write_series(ramp[:4] + 200, change=coronal, file_name=lambda index: f"c{index}", directions=CORONAL)
    return folder


@pytest.mark.parametrize(
    ("conditions", "smallest"),
    [
        ({"description": "COR*"}, 200),
        ({"description": "cor_iw_ts?"}, 200),
        ({"description": "SAG*", "echo": 2}, 200 - 100),
        ({"description": "*dess*", "echo": 1, "largest": True}, 0),
    ],
)
def test_a_description_and_an_echo_choose(three: Path, conditions: dict[str, object], smallest: int) -> None:
    volume = read_volume(three, chosen(**conditions))
    assert volume.array.min() == 100 + smallest
    assert read_header(three, chosen(**conditions)).source.oriented("RAS").shape == volume.array.shape


def test_the_largest_is_chosen_and_the_log_says_which(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_series(ramp)
    write_series(ramp[:4] + 100, change=marked(SeriesInstanceUID="1.2.3"), file_name=lambda index: f"c{index}")
    with caplog.at_level(logging.INFO):
        assert read_volume(folder, chosen(largest=True)).array.shape == (5, 3, 4)
    assert 'of 2 volumes, series (largest: true) chooses "SAG_3D_DESS_LEFT", series ...0043.8.498.1: 5 slices of 3 x 4' in caplog.text


def test_a_choice_that_leaves_several_lists_them(three: Path) -> None:
    text = refusal(three, chosen(description="SAG*"))
    assert text.startswith(f"{three}: holds 3 volumes, and 2 of them fit series (description: SAG*):\n")
    assert "echo 2, echo time 20.00 ms" in text
    assert "Narrow series down (description, echo, largest)" in text
    text = refusal(three, chosen(largest=True))
    assert "2 of them fit series (largest: true)" in text
    assert "They have equally many slices; add series.description or series.echo." in text


def test_a_choice_that_fits_nothing_lists_what_is_there(three: Path) -> None:
    text = refusal(three, chosen(description="AX*", echo=1))
    assert "holds 3 volumes, and none of them fits series (description: AX*, echo: 1):" in text
    assert '"COR_IW_TSE"' in text
    assert "Correct series, or name the folder of one series in the CSV file." in text


def test_without_a_choice_the_message_says_how_to_choose(three: Path) -> None:
    assert "or say by `series:` (description, echo, largest) which one is meant" in refusal(three, Reading())


@pytest.mark.parametrize("numbers", [(None, None), (1, 1)])
def test_echoes_without_numbers_are_counted_by_time(write_series: Write, ramp: np.ndarray, numbers: tuple[int | None, int | None]) -> None:
    folder = write_series(ramp, change=marked(EchoTime="9.5", **({"EchoNumbers": numbers[0]} if numbers[0] else {})))
    late = marked(EchoTime="14.2", **({"EchoNumbers": numbers[1]} if numbers[1] else {}))
    write_series(ramp + 100, change=late, file_name=lambda index: f"e{index}")
    assert read_volume(folder, chosen(echo=1)).array.min() == 100
    assert read_volume(folder, chosen(echo=2)).array.min() == 200
    assert "none of them fits series (echo: 3)" in refusal(folder, chosen(echo=3))


def test_a_folder_with_one_volume_is_read_whatever_is_asked_for(
    write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_series(ramp)
    assert read_volume(folder, chosen(echo=2, largest=True)).array.shape == (5, 3, 4)
    assert caplog.text == ""
    read_volume(folder, chosen(description="COR*"))
    assert 'its only volume, "SAG_3D_DESS_LEFT", is read although it does not fit series.description: COR*' in caplog.text


def test_the_choice_is_of_images_and_not_of_masks(write_series: Write, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.zeros((5, 4, 3), np.uint16)
    labels[2] = 3
    folder = write_series(labels, change=marked(SeriesDescription="labels"))
    assert read_mask(folder, chosen(description="SAG*", echo=1)).array.max() == 3
    assert caplog.text == ""


def test_an_odd_slice_and_a_scout_are_dropped_before_the_choice(three: Path, write_series: Write, ramp: np.ndarray) -> None:
    write_series(ramp[:1], change=marked(SeriesInstanceUID="4"), file_name=lambda index: "001", directions=((1, 0, 0), (0, 1, 0)))
    scout = marked(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID="5")
    write_series(np.concatenate([ramp, ramp]), change=scout, file_name=lambda index: f"scout_{index}")
    assert read_volume(three, chosen(description="SAG*", echo=1)).array.shape == (5, 3, 4)
    with pytest.raises(DataError, match="holds 3 volumes, and 2 of them fit"):
        read_volume(three, chosen(largest=True))


def test_uneven_spacing_is_tolerated_with_a_warning_and_missing_slices_are_not(
    write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    tolerant = Reading(tolerate_uneven_spacing=True)
    uneven = write_series(ramp, along=[0, 2, 4.3, 6, 8])
    with pytest.raises(DataError, match="exclude it, or set tolerate_uneven_spacing: true"):
        read_volume(uneven)
    volume = read_volume(uneven, tolerant)
    assert volume.spacing == pytest.approx((2, 0.75, 0.5))
    assert "017 lies 0.240 mm from its place" in caplog.text
    assert "It is read as if it were even, as tolerate_uneven_spacing says." in caplog.text
    assert read_mask(uneven, tolerant).array.shape == (5, 3, 4)
    with pytest.raises(DataError, match="slices are missing: 1 between"):
        read_volume(write_series(ramp, name="gap", along=[0, 2, 6, 8, 10]), tolerant)

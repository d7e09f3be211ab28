"""The check of an image's voxels, which looks at each of them wherever it stands in memory."""

from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.data.voxels import check_image_values
from fuse_examples.imaging.oai_example.errors import DataError

SCAN = Path("scan.nii")
ORDERS = {
    "C": lambda values: values,
    "F": np.asfortranarray,
    "backwards": lambda values: np.ascontiguousarray(values[::-1, :, ::-1])[::-1, :, ::-1],
    "middle axis slowest": lambda values: np.ascontiguousarray(values.transpose(1, 0, 2)).transpose(1, 0, 2),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 3, 7)])
def test_every_voxel_is_looked_at(order: str, shape: tuple[int, int, int]) -> None:
    for place in np.ndindex(shape):
        values = np.zeros(shape, np.float32)
        values[place] = 1
        check_image_values(ORDERS[order](values), SCAN)
        for bad in (np.nan, np.inf, -np.inf):
            values[place] = bad
            with pytest.raises(DataError, match=r"^scan\.nii: 1 of \d+ voxels are NaN or infinite"):
                check_image_values(ORDERS[order](values), SCAN)
    with pytest.raises(DataError, match=r"^scan\.nii: every voxel has the value 0; there is no image in it"):
        check_image_values(ORDERS[order](np.zeros(shape, np.int16)), SCAN)

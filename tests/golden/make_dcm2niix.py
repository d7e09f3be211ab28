"""Make dcm2niix.npz: what dcm2niix makes of the series of tests/unit/data/converter_cases.py, in RAS order.

    python tests/golden/make_dcm2niix.py        (with dcm2niix on the path; the file was made with v1.0.20220720, Debian 12)

The axes are turned by nibabel; nothing of this project reads the results.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "unit" / "data"))

from converter_cases import CASES  # noqa: E402


def converted(write, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    (folder / "nifti").mkdir()
    write(folder / "dicom")
    command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "it", "-o", str(folder / "nifti"), str(folder / "dicom")]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = (folder / "nifti").glob("*.nii")
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asanyarray(image.dataobj), image.affine


def main() -> None:
    found = {}
    for name, write in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            values, affine = converted(write, Path(folder))
        narrow = values.astype(np.float32) if values.dtype.kind == "f" else values
        assert np.array_equal(narrow, values) or np.allclose(narrow, values, rtol=1e-7)
        found |= {f"{name}/values": narrow, f"{name}/affine": affine}
    np.savez_compressed(HERE / "dcm2niix.npz", **found)
    print(f"{len(CASES)} series, {(HERE / 'dcm2niix.npz').stat().st_size} bytes")


if __name__ == "__main__":
    main()

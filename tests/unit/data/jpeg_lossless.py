"""An encoder of lossless JPEG (ITU-T T.81, process 14), written for tests: no Python package with a permissive licence has one."""

from struct import pack

import numpy as np

_CODE_LENGTH = 5  # every difference category 0 to 16 gets a code of five bits, its own number


def encode(image: np.ndarray, precision: int, selection: int = 1) -> bytes:
    """(rows, columns) of `precision` bits to a JPEG stream; `selection` 1 predicts a sample by its left neighbour, 2 by the one above."""
    stored = image.astype(np.int64) & ((1 << precision) - 1)
    rows, columns = stored.shape
    frame = pack(">BHHB3B", precision, rows, columns, 1, 1, 0x11, 0)
    counts = bytes(17 if length == _CODE_LENGTH else 0 for length in range(1, 17))
    table = b"\0" + counts + bytes(range(17))
    scan = bytes([1, 1, 0, selection, 0, 0])
    bodies = {b"\xff\xc3": frame, b"\xff\xc4": table, b"\xff\xda": scan}
    segments = b"".join(marker + pack(">H", len(body) + 2) + body for marker, body in bodies.items())
    return b"\xff\xd8" + segments + _entropy_coded(_differences(stored, precision, selection)) + b"\xff\xd9"


def _differences(stored: np.ndarray, precision: int, selection: int) -> np.ndarray:
    predicted = np.empty_like(stored)
    predicted[:, 1:] = stored[:, :-1]
    if selection == 2:
        predicted[1:, 1:] = stored[:-1, 1:]
    predicted[1:, 0] = stored[:-1, 0]  # the first column by the sample above, the first row by the sample to the left
    predicted[0, 0] = 1 << (precision - 1)
    predicted[0, 1:] = stored[0, :-1]
    return ((stored - predicted + 0x7FFF) % 0x10000) - 0x7FFF  # -32767 ... 32768


def _entropy_coded(differences: np.ndarray) -> bytes:
    bits = []
    for value in differences.ravel().tolist():
        category = abs(value).bit_length()
        bits.append(f"{category:0{_CODE_LENGTH}b}")
        if 0 < category < 16:
            bits.append(f"{value if value > 0 else value + (1 << category) - 1:0{category}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")

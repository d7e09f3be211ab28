"""Files of TensorBoard's embedding projector: cases as points that can be turned, searched and coloured, each with a slice of its scan.

`SummaryWriter.add_embedding` writes labels and thumbnails anew for every step, and forgets the steps before a resumption. Here they are
written once, and the list of steps is that of the files there are.
"""

from collections.abc import Sequence
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig

from fuse_examples.imaging.oai_example.evaluation.whole_files import write_whole

CONFIG = "projector_config.pbtxt"  # the name by which TensorBoard finds it in a run's folder
FOLDER = "projector"
THUMBNAIL = 64
"""Pixels of the edge of a case's picture."""
_FEATURES = "features_after_step_"


def write_projector(
    folder: Path, step: int, features: NDArray[np.floating], header: Sequence[str], rows: Sequence[Sequence[str]], slices: Sequence[Any]
) -> None:
    """Add the features of a step to the projector of the run in `folder`. What a cut-off run wrote of later steps goes.

    Args:
        folder: the run's.
        step: optimiser steps done.
        features: (n, F), a row per case.
        header: names of the columns of `rows`.
        rows: what is known of each case, n of them.
        slices: a grey picture (h, w) of values 0 to 255 of each case.
    """
    place = folder / FOLDER
    for later in (path for path in place.glob(f"{_FEATURES}*.tsv") if _step_of(path) > step):
        later.unlink()
    write_whole(place / f"{_FEATURES}{step:08d}.tsv", _tsv([[f"{value:.6g}" for value in row] for row in features.tolist()]))
    # A file of one column has no header in this format.
    write_whole(place / "cases.tsv", _tsv([list(header), *rows] if len(header) > 1 else rows))
    write_whole(place / "thumbnails.png", _sprite(slices))
    config = ProjectorConfig()
    for path in sorted(place.glob(f"{_FEATURES}*.tsv")):
        embedding = config.embeddings.add()
        # TensorBoard sorts by name and shows the first.
        of_step = _step_of(path)
        embedding.tensor_name = f"features (latest, step {step})" if of_step == step else f"features of step {of_step:06d}"
        embedding.tensor_path = f"{FOLDER}/{path.name}"
        embedding.metadata_path = f"{FOLDER}/cases.tsv"
        embedding.sprite.image_path = f"{FOLDER}/thumbnails.png"
        embedding.sprite.single_image_dim.extend([THUMBNAIL, THUMBNAIL])
    write_whole(folder / CONFIG, text_format.MessageToString(config))


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix(_FEATURES))


def _tsv(rows: Sequence[Sequence[str]]) -> str:
    # The format has no way to quote.
    return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)


def _sprite(slices: Sequence[NDArray[np.uint8]]) -> bytes:
    """All thumbnails in a square, row by row, as the projector reads them; each slice keeps its proportions on black."""
    edge = ceil(sqrt(len(slices)))
    square = Image.new("L", (edge * THUMBNAIL, edge * THUMBNAIL))
    for number, one in enumerate(slices):
        scale = THUMBNAIL / max(one.shape)
        height, width = (max(1, round(length * scale)) for length in one.shape)
        small = Image.fromarray(np.ascontiguousarray(one)).resize((width, height), Image.Resampling.BILINEAR)
        left, top = number % edge * THUMBNAIL, number // edge * THUMBNAIL
        square.paste(small, (left + (THUMBNAIL - width) // 2, top + (THUMBNAIL - height) // 2))
    content = BytesIO()
    square.save(content, format="PNG")
    return content.getvalue()

"""Pre-training that hides masked cells again after every stage of the encoder but the last, to be compared with the input alone.

    python benchmarks/masking_again.py [--config FILE] [key=value ...]

takes what `self_supervised/dino.py` takes, for `unet3d`, and trains as it does but for one thing: wherever the student sees a masked
view, the maps of all stages but the deepest are set to 0 in masked cells, as sparse convolutions leave them (SparK: Tian et al. 2023,
arXiv 2301.03580). So no stage computes with what the one before has made up in a hole, skip connections are empty there, and only the
last stage and the decoder fill it. docs/pretraining.md has the comparison.
"""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import Tensor, nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.self_supervised import dino
from fuse_examples.imaging.oai_example.tasks import masked_passes

mask_at_input = masked_passes._masked


def mask_after_stages(backbone: Backbone, views: Tensor, cells: Tensor, *arguments: Any, **options: Any) -> Any:
    """The pass over masked views, with cells (M, d, h, w) hidden after every stage but the last."""
    if not isinstance(backbone, UNet3D):
        raise ConfigError(f"backbone is {backbone.name}; masking again after stages is written for unet3d alone.")
    with ExitStack() as stages:
        for prefix in backbone.encoder_prefixes[:-1]:
            hook = backbone.get_submodule(prefix.rstrip(".")).register_forward_hook(partial(hide_cells, cells))
            stages.callback(hook.remove)
        return mask_at_input(backbone, views, cells, *arguments, **options)


def hide_cells(cells: Tensor, _stage: nn.Module, _inputs: Any, of_stage: Tensor) -> Tensor:
    """A stage's map (M, F, D, H, W), 0 in the voxels of masked cells."""
    hidden = F.interpolate(cells[:, None].float(), size=of_stage.shape[2:]) > 0
    return of_stage.masked_fill(hidden, 0.0)


def main() -> None:
    masked_passes._masked = mask_after_stages
    dino.main()


if __name__ == "__main__":
    sys.exit(run_entry(main))

"""From a knee's shape to its label mask and its noiseless signal on a voxel grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.prepare.knee_phantom.bones import Bone, build_femur, build_fibula, build_patella, build_tibia
from fuse_examples.imaging.oai_example.prepare.knee_phantom.frame import Field, Frame, knee_frame, random_waves, sum_of_waves
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import KneeShape
from fuse_examples.imaging.oai_example.prepare.knee_phantom.soft_tissue import build_meniscus, soft_layers


@dataclass(frozen=True)
class Contrast:
    """Relative signal of each tissue in a water-excited DESS image: fluid and cartilage bright, fat and marrow dim, menisci dark."""

    air: float = 0.01
    fat: float = 0.30
    deep: float = 0.36
    muscle: float = 0.44
    vessel: float = 0.85
    fluid: float = 1.0
    cartilage: float = 0.72
    cortex: float = 0.07
    marrow: float = 0.22
    meniscus: float = 0.11
    tendon: float = 0.09
    ligament: float = 0.20


_GRAIN = {"fat": 0.06, "deep": 0.08, "muscle": 0.07, "marrow": 0.13}  # texture's share of a tissue's signal


def paint_knee(
    shape: KneeShape, size: tuple[int, int, int], to_knee: NDArray[np.float64], contrast: Contrast
) -> tuple[Field, NDArray[np.uint8]]:
    """Draw a knee.

    Args:
        shape: the knee.
        size: (D, H, W) of the grid.
        to_knee: (4, 4) affine from voxel index to the knee's frame in true mm; a reflection draws the other side.
        contrast: the signal of each tissue.

    Returns:
        Signal (D, H, W), about 0 to 1 with soft edges, and mask (D, H, W) with labels 0-6, decided at voxel centres.
    """
    to_unit = np.diag([1 / shape.scale] * 3 + [1.0]) @ to_knee
    rng = np.random.default_rng(shape.relief_seed)
    texture = sum_of_waves(random_waves(rng, 40, 4.0, 14.0), size, to_unit)
    whole = _in_relief(knee_frame(size, to_unit), rng, size)
    femur, tibia, patella = build_femur(shape, whole), build_tibia(shape, whole), build_patella(shape, whole)
    signal = np.full(size, contrast.air, dtype=np.float32)
    mask = np.zeros(size, dtype=np.uint8)
    for tissue, box, share in soft_layers(shape, whole, femur, patella):
        part = signal[box]
        part += share * (_grained(tissue, contrast, texture[box]) - part)
    for label, lateral in ((5, True), (6, False)):
        meniscus = build_meniscus(shape, whole, femur, lateral=lateral)
        part = signal[meniscus.box]
        part += meniscus.surface.covered() * (contrast.meniscus - part)
        mask[meniscus.box][meniscus.surface.distance < 0] = label
    for bone in (build_fibula(whole), femur, tibia, patella):
        _paint_bone(signal[bone.box], bone, texture[bone.box], contrast)
        _label_bone(mask[bone.box], bone)
    return signal, mask


def _in_relief(frame: Frame, rng: np.random.Generator, size: tuple[int, int, int]) -> Frame:
    """Bend space by about half a millimetre, differently in each knee, so that no surface is a textbook one."""
    x, y, z = (axis + 0.45 * sum_of_waves(random_waves(rng, 4, 45.0, 90.0), size, frame.to_knee) for axis in (frame.x, frame.y, frame.z))
    return Frame(x, y, z, frame.to_knee, frame.box)


def _grained(tissue: str, contrast: Contrast, texture: Field) -> Field | float:
    signal = float(getattr(contrast, tissue))
    return signal * (1 + _GRAIN[tissue] * texture) if tissue in _GRAIN else signal


def _paint_bone(signal: Field, bone: Bone, texture: Field, contrast: Contrast) -> None:
    """Marrow in a dark cortex, with cartilage on it: shares of nested surfaces, so that no voxel gets more than one whole."""
    share = bone.surface.covered()
    inner = bone.surface.covered(-1.0)
    paint = contrast.cortex * (share - inner) + _grained("marrow", contrast, texture) * inner
    for plate in bone.plates:
        cartilage = np.minimum(plate.covered(), 1 - share)
        depth = np.clip(plate.bed.distance / np.maximum(plate.thickness, 0.5), 0, 1)
        paint += contrast.cartilage * (0.9 + 0.15 * depth) * cartilage  # brighter towards the joint
        share += cartilage
    signal *= 1 - share
    signal += paint


def _label_bone(mask: NDArray[np.uint8], bone: Bone) -> None:
    outside = bone.surface.distance >= 0
    mask *= outside
    for plate in bone.plates:
        mask[plate.inside() & outside] = plate.label

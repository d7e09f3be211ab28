"""Femur, tibia, patella and fibula, and the cartilage plates on them, as signed distances in the knee's frame."""

import math
from dataclasses import dataclass

import numpy as np

from fuse_examples.imaging.oai_example.prepare.knee_phantom.frame import (
    Box,
    Field,
    Flags,
    Frame,
    Surface,
    capsule,
    ellipsoid,
    smooth_max,
    smooth_min,
    smooth_step,
    surface,
)
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import KneeShape

GAP = 0.7  # fluid between touching cartilages, mm
FEMUR_AXIS_Y = -4.0
_EDGE = 2.5  # width of a plate's rounded rim, mm
_FAR = 80.0  # beyond every field of view, mm


@dataclass(frozen=True)
class Plate:
    """Cartilage on a bone: label, distance above the bone's articular surface, and local thickness, 0 outside the plate (mm)."""

    label: int
    bed: Surface
    thickness: Field

    def inside(self) -> Flags:
        """True where a voxel's centre lies in the plate."""
        found: Flags = (self.bed.distance >= 0) & (self.bed.distance < self.thickness)
        return found

    def covered(self, extra: float = 0.0) -> Field:
        """Share of each voxel that is cartilage, or lies up to `extra` mm over it."""
        top = self.thickness + extra * (self.thickness > 0) if extra else self.thickness
        share: Field = self.bed.covered(top) - self.bed.covered()
        return share


@dataclass(frozen=True)
class Bone:
    """A bone and its plates on a box of the grid."""

    box: Box
    surface: Surface
    plates: tuple[Plate, ...] = ()


def femur_axis_height(shape: KneeShape) -> float:
    """Height of the condyles' axis over the joint line: the bone's radius, its cartilage and half the gap."""
    return shape.condyle_radius + shape.thickness_of("femoral") + GAP / 2


def _side(frame: Frame) -> Field:
    """1 on the lateral, -1 on the medial side."""
    side: Field = np.tanh(frame.x / 5)
    return side


def _rounded(edge: Field) -> Field:
    """Share of the full thickness at `edge` mm inside a plate's rim: a quarter of an ellipse."""
    t = np.clip(edge / _EDGE, 0, 1)
    share: Field = np.sqrt(t * (2 - t))
    return share


def _turned(shape: KneeShape, frame: Frame) -> tuple[Field, Field]:
    """y and z counted from the condyles' axis and turned by the knee's flexion."""
    y, z = frame.y - FEMUR_AXIS_Y, frame.z - femur_axis_height(shape)
    cos, sin = math.cos(shape.flexion), math.sin(shape.flexion)
    return cos * y - sin * z, sin * y + cos * z


def build_femur(shape: KneeShape, whole: Frame) -> Bone:
    """A drum around the condyles' axis with two crests, groove and notch, joined to the shaft."""
    frame = whole.around((-_FAR, -_FAR, -2.0), (_FAR, 34.0, _FAR))
    side, across = _side(frame), np.abs(frame.x)
    y, z = _turned(shape, frame)
    angle = np.arctan2(y, -z)  # 0 points down, a right angle to the front
    front = smooth_step(angle, math.radians(-10), math.radians(100))
    notch = shape.notch_depth / (1 + np.exp((angle - 0.5) / 0.12)) * np.exp(-np.square(np.square(across / 9)))
    crest = np.sqrt(np.square(frame.x) + 9) - shape.crest
    profile = shape.condyle_radius + (shape.trochlea_radius - shape.condyle_radius) * front - notch
    profile += 0.5 * side * (shape.lateral_ridge_extra * front - shape.medial_condyle_extra * (1 - front))
    profile -= np.square(crest) * (1 - 0.12 * side) / (2 * shape.coronal_radius)
    drum = smooth_max(np.sqrt(y * y + z * z) - profile, across - shape.half_width, 6.0)
    drum = smooth_max(drum, z - 13, 6.0)
    width = 16 + 11 / (1 + np.exp((z - 13) / 5))
    shaft = (np.sqrt(np.square(frame.x / width) + np.square((y - 10) / 14)) - 1) * 14
    bone = surface(smooth_min(drum, smooth_max(shaft, 2 - z, 6.0), 6.0), frame.spacing)
    edge = _femoral_edge(shape, angle, across, notch)
    return Bone(frame.box, bone, (Plate(1, bone, shape.thickness_of("femoral") * _rounded(edge)),))


def _femoral_edge(shape: KneeShape, angle: Field, across: Field, notch: Field) -> Field:
    """Distance to the rim of the femoral plate along the bone, mm, positive on the plate.

    A small plate ends early behind and at the sides; its front always reaches the patella.
    """
    area = shape.femoral_area
    back, front, half = math.radians(-100 * area**0.7), math.radians(92 * area**0.25), 0.84 * shape.half_width * area**0.35
    length = shape.condyle_radius + 3
    edge: Field = np.minimum(np.minimum((angle - back) * length, (front - angle) * length), half - across)
    bounded: Field = np.minimum(edge, (2 - notch) * 1.5)
    return bounded


def tibial_top(shape: KneeShape, frame: Frame) -> Field:
    """Height of the tibial plates' free surface over each (x, y), mm: concave medially, convex laterally, sloping backwards."""
    x, y = frame.x, frame.y
    bowl = shape.medial_bowl * (np.square((x + 16) / 13) + np.square((y + 1) / 18))
    dome = 0.5 * np.square((x - 16) / 13) - shape.lateral_dome * np.square((y + 3) / 15)
    top: Field = -GAP / 2 + shape.posterior_slope * (y + 4) + bowl + 0.5 * (1 + _side(frame)) * (dome - bowl)
    capped: Field = np.minimum(top, 3)
    return capped


def build_tibia(shape: KneeShape, whole: Frame) -> Bone:
    """A plateau with two spines on a flared shaft with its tuberosity, and a plate on each half."""
    frame = whole.around((-_FAR, -_FAR, -_FAR), (_FAR, 32.0, 9.0))
    x, y, z = frame.x, frame.y, frame.z
    lateral, medial = shape.thickness_of("lateral_tibial"), shape.thickness_of("medial_tibial")
    rise = z - tibial_top(shape, frame) + medial + 0.5 * (1 + _side(frame)) * (lateral - medial)
    spines = shape.eminence * np.exp(-np.square((np.abs(x) - 3.5) / 3.5) - np.square((y + 1) / 9))
    flare = smooth_step(z, -36, -6)
    half_width = 19 + (shape.tibial_half_width - 19) * flare
    dent = 2 * np.exp(-np.square(x / 8))  # where the posterior cruciate ligament ends
    depth = (y - 1.5 - dent) / (15 + (shape.tibial_half_depth - 15) * flare - dent)
    wall = (np.sqrt(np.sqrt(np.square(np.square(x / half_width)) + np.square(np.square(depth)))) - 1) * 18
    tuberosity = ellipsoid(frame, (2.0, 16.0, -32.0), (8.0, 8.0, 14.0))
    bone = surface(smooth_min(smooth_max(rise - spines, wall, 2.0), tuberosity, 5.0), frame.spacing)
    bed, root = Surface(rise, bone.extent), math.sqrt(shape.tibial_area)
    plates = []
    for label, thickness, (cx, cy), (rx, ry) in ((2, lateral, (16.8, -1.0), (10.6, 14.0)), (3, medial, (-16.8, -0.5), (11.0, 16.5))):
        q = np.sqrt(np.square((x - cx) / (rx * root)) + np.square((y - cy) / (ry * root)))
        plates.append(Plate(label, bed, thickness * _rounded((1 - q) * (0.5 * (rx + ry) * root))))
    return Bone(frame.box, bone, tuple(plates))


def patella_centre(shape: KneeShape) -> tuple[float, float, float]:
    """Middle of the patella in the knee's frame, before flexion, mm."""
    back = shape.trochlea_radius + shape.thickness_of("femoral") + GAP + shape.thickness_of("patellar")
    return shape.patella_shift, FEMUR_AXIS_Y + back + 4, femur_axis_height(shape) + shape.patella_height


def build_patella(shape: KneeShape, whole: Frame) -> Bone:
    """A lens in the trochlea, cut off behind along the groove's two facets."""
    centre = patella_centre(shape)
    frame = whole.around((centre[0] - 21, centre[1] - 14, centre[2] - 22), (centre[0] + 21, centre[1] + 18, centre[2] + 22))
    y, z = _turned(shape, frame)
    x, height = frame.x - shape.patella_shift, z - shape.patella_height
    across = np.minimum(np.sqrt(x * x + 9), shape.crest) - shape.crest
    thickness = shape.thickness_of("patellar")
    free = shape.trochlea_radius + shape.thickness_of("femoral") + GAP - 0.9 * np.square(across) / (2 * shape.coronal_radius)
    above = free - np.square(height) / 180 + thickness - y  # from the bone's back, backwards
    forward = (y - (centre[1] - FEMUR_AXIS_Y)) / 13
    taper = 1 + 0.012 * height  # narrower towards the apex
    lens = (np.sqrt(np.square(x / (19.5 * taper)) + np.square(forward) + np.square(height / 18)) - 1) * 13
    bone = surface(smooth_max(lens, above, 1.5), frame.spacing)
    root = math.sqrt(shape.patellar_area)
    q = np.sqrt(np.square(x / (14.3 * root)) + np.square((height - 1) / (12.3 * root)))
    return Bone(frame.box, bone, (Plate(4, Surface(above, bone.extent), thickness * _rounded((1 - q) * (13.3 * root))),))


def build_fibula(whole: Frame) -> Bone:
    """The fibula's head, below and behind the lateral plateau."""
    frame = whole.around((19.0, -24.0, -_FAR), (34.0, -9.0, -11.0))
    return Bone(frame.box, Surface(capsule(frame, (27.0, -16.0, -18.0), (26.0, -17.0, -_FAR), 6.5), 1.4))

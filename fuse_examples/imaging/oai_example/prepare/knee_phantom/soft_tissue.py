"""Menisci, ligaments, tendons, muscles, fat and joint fluid around the bones."""

import math
from collections.abc import Iterator

import numpy as np

from fuse_examples.imaging.oai_example.prepare.knee_phantom.bones import FEMUR_AXIS_Y, Bone, femur_axis_height, patella_centre, tibial_top
from fuse_examples.imaging.oai_example.prepare.knee_phantom.frame import Box, Field, Frame, Point, Surface, capsule, ellipsoid, inside
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import KneeShape

Layer = tuple[str, Box, Field]
"""Name of a tissue (an attribute of `Contrast`), where it lies in the grid, and the share of each voxel it covers there."""

_EXTENT = 1.6  # edge width of tissues whose exact share of a voxel does not matter, mm


def build_meniscus(shape: KneeShape, whole: Frame, femur: Bone, *, lateral: bool) -> Bone:
    """A wedge-shaped ring between femur and tibial plateau: nearly closed laterally, an open C medially."""
    (cx, cy), (rx, ry), gate = ((16.5, -1.5), (14.3, 16.5), (6.5, 5.5)) if lateral else ((-16.3, -1.0), (14.5, 20.0), (7.5, 11.5))
    frame = whole.around((cx - rx, cy - ry, -2.0), (cx + rx, cy + ry, 9.0))
    radius, width = 0.5 * (rx + ry), shape.meniscus_width
    x, y = frame.x - cx, frame.y - cy
    radial = (np.sqrt(np.square(x / rx) + np.square(y / ry)) - 1) * radius
    up = frame.z - tibial_top(shape, frame)
    roof = up - 7.5 * np.clip(1 + radial / width, 0, 1) - 0.2
    # Kept off the femur by a full plate also beyond the plate's rim, so that its size does not depend on where the rim is.
    under_femur = shape.thickness_of("femoral") + 0.2 - femur.surface.distance[inside(frame.box, femur.box)]
    inward = -rx if lateral else rx
    opening = (1 - np.sqrt(np.square((x - inward) / gate[0]) + np.square(y / gate[1]))) * min(gate)
    level: Field = np.maximum.reduce([radial, -radial - width, roof, -up - 0.9, under_femur, opening])
    return Bone(frame.box, Surface(level, 1.3))


def soft_layers(shape: KneeShape, whole: Frame, femur: Bone, patella: Bone) -> Iterator[Layer]:
    """Everything that is neither bone, cartilage nor meniscus, from the skin inwards; later layers lie on top."""
    centre = patella_centre(shape)
    skin = _skin(shape, whole)
    yield "fat", whole.box, skin.covered()
    # The fat under the skin is thicker on the medial side, as in most knees.
    yield "deep", whole.box, skin.covered(-shape.fat * (1 - 0.45 * np.tanh(whole.x / 20)))
    for start, end, radius in _muscles(shape.muscle):
        yield _rod("muscle", whole, start, end, radius)
    yield _rod("vessel", whole, (3.0, -33.0, 60.0), (1.0, -31.0, -60.0), 3.0)
    for bone, plate in ((femur, "femoral"), (patella, "patellar")):
        # Thinner over the wide plates of thin cartilage, so that the brightest voxels are as many in every knee.
        yield "fluid", bone.box, bone.plates[0].covered(0.63 * math.sqrt(shape.thickness_of(plate)))
    yield _pool(whole, (0.0, centre[1] - 15, centre[2] + 21), (14.0, 3.2, 10.0))
    yield _pool(whole, (-11.0, -27.5, 12.0), (4.0, 2.5, 7.0))
    yield from _tendons(whole, centre)
    top = femur_axis_height(shape)
    for start, end, radius in _ligaments(top):
        yield _rod("ligament", whole, start, end, radius)


def _skin(shape: KneeShape, frame: Frame) -> Surface:
    """The skin, in front of the patella at its place over cartilage of average thickness: the leg's size is not the cartilage's."""
    y, z = FEMUR_AXIS_Y + shape.trochlea_radius + 8, shape.condyle_radius + shape.patella_height
    front = y + 13 * np.exp(-np.square((frame.z - z) / 22)) + shape.fat - np.square(frame.x) / 75
    return Surface(np.maximum(frame.y - front, np.abs(frame.x - 1) - 38.5), _EXTENT)


def _rod(tissue: str, whole: Frame, start: Point, end: Point, radius: float) -> Layer:
    low, high = np.minimum(start, end) - radius, np.maximum(start, end) + radius
    frame = whole.around((float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2])))
    return tissue, frame.box, Surface(capsule(frame, start, end, radius), _EXTENT).covered()


def _pool(whole: Frame, centre: Point, radii: Point) -> Layer:
    low, high = np.subtract(centre, radii), np.add(centre, radii)
    frame = whole.around((float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2])))
    return "fluid", frame.box, Surface(ellipsoid(frame, centre, radii), _EXTENT).covered()


def _muscles(size: float) -> list[tuple[Point, Point, float]]:
    return [
        ((-15.0, -37.0, 16.0), (-13.0, -35.0, -70.0), 12.5 * size),  # medial head of gastrocnemius
        ((16.0, -36.0, 10.0), (13.0, -35.0, -70.0), 10.5 * size),  # lateral head
        ((-18.0, -26.0, 34.0), (-16.0, -24.0, 80.0), 11.0 * size),  # semimembranosus
        ((22.0, -28.0, 30.0), (18.0, -24.0, 80.0), 8.5 * size),  # biceps femoris
        ((-25.0, 16.0, 44.0), (-20.0, 22.0, 80.0), 12.0 * size),  # vastus medialis
        ((25.0, 16.0, 56.0), (22.0, 20.0, 80.0), 11.0 * size),  # vastus lateralis
        ((17.0, 6.0, -38.0), (15.0, 8.0, -80.0), 9.0 * size),  # tibialis anterior
        ((2.0, -21.0, -28.0), (0.0, -20.0, -80.0), 8.0 * size),  # popliteus and soleus
    ]


def _tendons(whole: Frame, patella: Point) -> Iterator[Layer]:
    """Quadriceps tendon above and patellar tendon below the patella, three times as broad as thick."""
    x, y, z = patella[0] / 3, patella[1] + 4, patella[2]
    rods = (((x, y, z - 14), (0.7, 25.0, -34.0), 2.8), ((x, y, z + 14), (0.0, y - 4, 90.0), 3.4))
    for start, end, radius in rods:
        frame = whole.around((-12.0, 20.0, min(start[2], end[2]) - 4), (12.0, 60.0, max(start[2], end[2]) + 4))
        flat = Frame(frame.x / 3, frame.y, frame.z, frame.to_knee, frame.box)
        yield "tendon", frame.box, Surface(capsule(flat, start, end, radius), _EXTENT).covered()


def _ligaments(top: float) -> list[tuple[Point, Point, float]]:
    """Ends and radii of the ligaments; `top` is the height of the condyles' axis."""
    return [
        ((-1.0, 8.0, 0.0), (7.0, -13.0, top - 1), 2.6),  # anterior cruciate
        ((0.0, -18.0, -6.0), (-3.0, -14.0, top - 13), 3.2),  # posterior cruciate, bent over the spine
        ((-3.0, -14.0, top - 13), (-7.0, 0.0, top - 4), 3.2),
        ((-33.0, -4.0, top + 4), (-30.0, 2.0, -36.0), 1.5),  # medial collateral
        ((32.5, -8.0, top + 2), (28.0, -16.0, -14.0), 1.8),  # lateral collateral
    ]

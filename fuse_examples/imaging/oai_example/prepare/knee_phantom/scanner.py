"""Fictitious scanners, and what each of them makes of a knee: position, field, noise and the integers it stores."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fuse_examples.imaging.oai_example.prepare.knee_phantom.frame import Field
from fuse_examples.imaging.oai_example.prepare.knee_phantom.painting import Contrast, paint_knee
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import KneeShape

Side = Literal["RIGHT", "LEFT"]
_VIEW_CENTRE = (0.0, 9.0, 7.5)  # middle of the field of view in the knee's frame, mm


@dataclass(frozen=True)
class Scanner:
    """A scanner and its protocol.

    Attributes:
        size: voxels along (left-right, posterior-anterior, inferior-superior).
        spacing: voxel size along the same axes, mm.
        gain: stored units of a signal of 1.
        noise: standard deviation of the noise in each of the two channels, relative to a signal of 1.
        shading: strength of the coil's uneven sensitivity.
        scaling: how stored integers become values: not at all, by integers, by one decimal slope, by a slope per slice.
        oblique: standard deviation of the stack's tilt, degrees.
    """

    manufacturer: str
    model: str
    field_tesla: float
    echo_ms: float
    repetition_ms: float
    flip_degrees: float
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    gain: float
    noise: float
    shading: float
    contrast: Contrast
    signed: bool = False
    bits: int = 12
    scaling: Literal["none", "integer", "decimal", "per slice"] = "none"
    oblique: float = 0.0
    ascending: bool = True
    explicit_vr: bool = True


SCANNERS = (
    Scanner("Northlight Imaging", "Aurora 3T", 2.89362, 4.71, 16.32, 25, (36, 72, 72), (2.0, 1.17, 1.17), 620, 0.030, 0.14, Contrast()),
    Scanner(
        "Kestrel Medical", "KM-30", 3.0, 4.9, 17.1, 25, (34, 64, 64), (2.1, 1.3, 1.3), 1450, 0.035, 0.22,
        Contrast(fat=0.27, cartilage=0.69, marrow=0.24, muscle=0.42), bits=16, scaling="integer", ascending=False,
    ),
    Scanner(
        "Halden MR", "Fjord 15", 1.5, 5.6, 18.4, 30, (36, 72, 76), (2.0, 1.2, 1.15), 840, 0.045, 0.17,
        Contrast(fat=0.33, cartilage=0.70, marrow=0.20, fluid=0.95), signed=True, bits=16, scaling="decimal", oblique=3.0,
    ),
    Scanner(
        "Boreas Systems", "Trident", 3.0, 4.6, 16.0, 25, (40, 76, 76), (1.8, 1.14, 1.14), 1020, 0.040, 0.20,
        Contrast(fat=0.31, cartilage=0.74, meniscus=0.12, deep=0.34), signed=True, bits=16, scaling="per slice", oblique=1.5,
        ascending=False, explicit_vr=False,
    ),
)  # fmt: skip
"""All names are made up."""


@dataclass(frozen=True)
class Pose:
    """Where a knee lies in the scanner: its centre (mm, RAS) and its turn (degrees about x, y and z)."""

    centre: tuple[float, float, float]
    turn: tuple[float, float, float]


@dataclass(frozen=True)
class Scan:
    """A series as the scanner holds it, with axes and affine in RAS order; value = stored * slope + intercept, slice by slice.

    Attributes:
        stored: (D, H, W) integers; the slices lie along the first axis.
        slopes, intercepts: (D,).
        affine: (4, 4) voxel index to mm.
        mask: (D, H, W) labels 0-6.
    """

    scanner: Scanner
    stored: NDArray[Any]
    slopes: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    affine: NDArray[np.float64]
    mask: NDArray[np.uint8]

    def values(self) -> NDArray[Any]:
        """The image as a reader should see it: int16 where the scaling is by integers, float32 elsewhere."""
        values = self.stored * self.slopes[:, None, None] + self.intercepts[:, None, None]
        whole = bool(np.all(self.slopes % 1 == 0) and np.all(self.intercepts % 1 == 0))
        return values.astype(np.int16 if whole else np.float32)


def draw_pose(rng: np.random.Generator, side: Side) -> Pose:
    """Draw how the leg was laid: a few millimetres and degrees from the usual."""
    lateral = 62 + 6 * rng.uniform(-1, 1)
    centre = (lateral if side == "RIGHT" else -lateral, 8 * rng.uniform(-1, 1), 15 * rng.uniform(-1, 1))
    turn = (4 * rng.uniform(-1, 1), 3 * rng.uniform(-1, 1), 4 * rng.uniform(-1, 1))
    return Pose(centre, turn)


def draw_next_pose(rng: np.random.Generator, pose: Pose) -> Pose:
    """Draw the pose of a later visit: nearly the same."""
    centre = np.add(pose.centre, rng.uniform(-3, 3, 3))
    turn = np.add(pose.turn, rng.uniform(-2, 2, 3))
    return Pose((float(centre[0]), float(centre[1]), float(centre[2])), (float(turn[0]), float(turn[1]), float(turn[2])))


def scan_knee(rng: np.random.Generator, shape: KneeShape, side: Side, pose: Pose, scanner: Scanner, gain: float = 1.0) -> Scan:
    """Image a knee: choose the stack, paint, shade, add noise, store as integers. `gain` multiplies the scanner's own."""
    affine = _prescribe(rng, pose, scanner, shape.scale)
    signal, mask = paint_knee(shape, scanner.size, _world_to_knee(side, pose) @ affine, scanner.contrast)
    signal *= _shading(rng, scanner)
    signal = _with_noise(rng, signal, scanner.noise)
    stored, slopes, intercepts = _store(rng, signal * np.float32(scanner.gain * gain), scanner)
    return Scan(scanner, stored, slopes, intercepts, affine, mask)


def _world_to_knee(side: Side, pose: Pose) -> NDArray[np.float64]:
    """(4, 4) from scanner mm (RAS) to the knee's frame; for a left knee a reflection, since lateral is then to the left."""
    matrix = np.eye(4)
    mirror = np.diag([1.0 if side == "RIGHT" else -1.0, 1.0, 1.0])
    matrix[:3, :3] = mirror @ Rotation.from_euler("xyz", pose.turn, degrees=True).as_matrix().T
    matrix[:3, 3] = -matrix[:3, :3] @ np.array(pose.centre)
    return matrix


def _prescribe(rng: np.random.Generator, pose: Pose, scanner: Scanner, scale: float) -> NDArray[np.float64]:
    """The technician's stack: around the joint, to a few millimetres, tilted on some scanners; (4, 4) voxel index to mm."""
    tilt = Rotation.from_euler("xyz", scanner.oblique * np.clip(rng.standard_normal(3), -2, 2), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt * np.array(scanner.spacing)
    centre = np.add(pose.centre, scale * np.array(_VIEW_CENTRE)) + rng.uniform(-1, 1, 3) * (1.5, 2.5, 2.5)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(scanner.size) - 1) / 2)
    return affine


def _shading(rng: np.random.Generator, scanner: Scanner) -> Field:
    """Smooth uneven sensitivity with mean 1: brighter towards the coil, along each axis on its own."""
    factors = []
    for n in scanner.size:
        t = np.linspace(-1, 1, n)
        slope, bend = scanner.shading * rng.uniform(-1, 1), scanner.shading * rng.uniform(0.2, 1)
        factor = np.exp(slope * t + bend * t * t)
        factors.append((factor / factor.mean()).astype(np.float32))
    a, b, c = factors
    field: Field = a[:, None, None] * b[None, :, None] * c[None, None, :]
    return field


def _with_noise(rng: np.random.Generator, signal: Field, sigma: float) -> Field:
    """Magnitude of the signal with Gaussian noise in both channels: Rician noise."""
    real, imaginary = (np.float32(sigma) * rng.standard_normal(signal.shape, dtype=np.float32) for _ in range(2))
    magnitude: Field = np.sqrt((signal + real) ** 2 + imaginary**2)
    return magnitude


def _store(rng: np.random.Generator, values: Field, scanner: Scanner) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    depth = scanner.size[0]
    slopes, intercepts = np.ones(depth), np.zeros(depth)
    if scanner.scaling == "integer":
        slopes[:] = 2
    elif scanner.scaling == "decimal":
        slopes[:], intercepts[:] = round(float(rng.uniform(0.4, 0.9)), 4), 512.0
    elif scanner.scaling == "per slice":
        slopes = np.round(rng.uniform(0.5, 0.7, depth), 4)
    stored = np.rint((values - intercepts[:, None, None]) / slopes[:, None, None])
    low, high = (-(2 ** (scanner.bits - 1)), 2 ** (scanner.bits - 1) - 1) if scanner.signed else (0, 2**scanner.bits - 1)
    return np.clip(stored, low, high).astype(np.int16 if scanner.signed else np.uint16), slopes, intercepts

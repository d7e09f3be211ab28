"""The numbers that make one knee differ from another, and how they are drawn.

Lengths are millimetres of a knee of scale 1, about 62 mm wide. In the knee's own frame x points laterally, y anteriorly and z
superiorly; z = 0 is the joint line and y = 0 the middle of the tibial plateau. Left and right knees are the same in this frame.
"""

from dataclasses import dataclass, replace

import numpy as np

LABELS = (
    "background",
    "FemoralCartilage",
    "LateralTibialCartilage",
    "MedialTibialCartilage",
    "PatellarCartilage",
    "LateralMeniscus",
    "MedialMeniscus",
)
"""Names of the mask's labels 0-6, in the order of the OAI's iMorphics segmentations."""

PROGRESSION = "1: Progression"
CONTROL = "3: Non-exposed control group"
THICKNESS_MM = {PROGRESSION: (2.4, 0.17), CONTROL: (3.7, 0.22)}
"""Mean and standard deviation of a patient's cartilage thickness, in mm, before the scatter of the single structures."""

_REFERENCE_THICKNESS = 3.0
# Thin plates spread so much wider that the mask's volume does not tell the cohorts apart: area is proportional to thickness to
# the power of minus these. They differ from 1 because rims and curved surfaces do not scale; they were fitted to the masks.
_FEMORAL_EXPONENT, _TIBIAL_EXPONENT, _PATELLAR_EXPONENT = 1.08, 1.1, 0.97


@dataclass(frozen=True)
class KneeShape:
    """One knee. Thicknesses are those of the plates' inner parts, in true mm; areas are relative to an average plate's."""

    scale: float
    femoral_thickness: float
    lateral_tibial_thickness: float
    medial_tibial_thickness: float
    patellar_thickness: float
    femoral_area: float
    tibial_area: float
    patellar_area: float
    meniscus_width: float = 9.5
    condyle_radius: float = 20.5
    trochlea_radius: float = 26.5
    crest: float = 15.5
    coronal_radius: float = 26.0
    notch_depth: float = 13.0
    half_width: float = 30.5
    medial_condyle_extra: float = 0.8
    lateral_ridge_extra: float = 1.2
    tibial_half_width: float = 31.0
    tibial_half_depth: float = 21.5
    posterior_slope: float = 0.09
    medial_bowl: float = 1.2
    lateral_dome: float = 0.8
    eminence: float = 6.5
    patella_height: float = 3.0
    patella_shift: float = 1.5
    flexion: float = 0.0
    fat: float = 6.0
    muscle: float = 1.0
    relief_seed: int = 0

    def thickness_of(self, name: str) -> float:
        """A plate's thickness in the mm of a knee of scale 1."""
        return float(getattr(self, f"{name}_thickness")) / self.scale


def draw_patient_thickness(rng: np.random.Generator, cohort: str) -> float:
    """Draw a patient's cartilage thickness in mm, with the spread cut at 2.5 standard deviations."""
    mean, spread = THICKNESS_MM[cohort]
    return float(mean + spread * np.clip(rng.standard_normal(), -2.5, 2.5))


def with_thickness(shape: KneeShape, thickness: float) -> KneeShape:
    """The same knee with cartilage of another mean thickness (mm), spread wider where it is thinner."""
    ratio = thickness / _mean_thickness(shape)
    return replace(
        shape,
        femoral_thickness=shape.femoral_thickness * ratio,
        lateral_tibial_thickness=shape.lateral_tibial_thickness * ratio,
        medial_tibial_thickness=shape.medial_tibial_thickness * ratio,
        patellar_thickness=shape.patellar_thickness * ratio,
        femoral_area=shape.femoral_area * ratio**-_FEMORAL_EXPONENT,
        tibial_area=shape.tibial_area * ratio**-_TIBIAL_EXPONENT,
        patellar_area=shape.patellar_area * ratio**-_PATELLAR_EXPONENT,
    )


def _mean_thickness(shape: KneeShape) -> float:
    tibial = 0.5 * (shape.lateral_tibial_thickness + shape.medial_tibial_thickness)
    return (shape.femoral_thickness + tibial + shape.patellar_thickness) / 3


def draw_shape(rng: np.random.Generator) -> KneeShape:
    """Draw a knee with cartilage of 3 mm."""

    def around(value: float, spread: float) -> float:
        return float(value + spread * np.clip(rng.standard_normal(), -2.0, 2.0))

    volume = around(1.0, 0.08)
    shape = KneeShape(
        scale=around(0.97, 0.035),
        femoral_thickness=around(1.0, 0.03),
        lateral_tibial_thickness=around(1.03, 0.03),
        medial_tibial_thickness=around(0.97, 0.03),
        patellar_thickness=around(1.12, 0.03),
        femoral_area=volume,
        tibial_area=volume,
        patellar_area=volume,
        meniscus_width=around(9.5, 0.5),
        condyle_radius=around(20.5, 0.7),
        trochlea_radius=around(26.5, 0.7),
        crest=around(15.5, 0.5),
        coronal_radius=around(26.0, 2.0),
        notch_depth=around(13.0, 1.0),
        half_width=around(30.5, 0.6),
        medial_condyle_extra=around(0.8, 0.3),
        lateral_ridge_extra=around(1.2, 0.4),
        tibial_half_width=around(31.0, 0.6),
        tibial_half_depth=around(21.5, 0.7),
        posterior_slope=around(0.09, 0.02),
        medial_bowl=around(1.2, 0.3),
        lateral_dome=around(0.8, 0.3),
        eminence=around(6.5, 0.6),
        patella_height=around(3.0, 1.0),
        patella_shift=around(1.5, 0.6),
        flexion=around(0.0, 0.05),
        fat=around(6.0, 1.2),
        muscle=around(1.0, 0.08),
        relief_seed=int(rng.integers(2**31)),
    )
    # Only here is the volume the plates' own: from now on thickness and area change together.
    return replace(with_thickness(shape, _REFERENCE_THICKNESS), femoral_area=volume, tibial_area=volume, patellar_area=volume)


def expected_log_volume(shape: KneeShape) -> float:
    """Logarithm of all labels' volume, up to a constant, as fitted to drawn masks (residual 1.5 %); whatever the thickness."""
    plates = shape.femoral_area * (_mean_thickness(shape) / _REFERENCE_THICKNESS) ** _FEMORAL_EXPONENT
    femoral = shape.femoral_thickness / _mean_thickness(shape)
    bone = 0.0234 * shape.condyle_radius + 0.0257 * shape.half_width - 0.195 * shape.flexion
    return float(2.2 * np.log(shape.scale) + 0.74 * np.log(plates) + 0.54 * np.log(femoral) + bone)


def other_knee(rng: np.random.Generator, shape: KneeShape) -> KneeShape:
    """The same patient's knee of the other side: alike, not equal."""
    factor = 1 + 0.01 * np.clip(rng.standard_normal(4), -2, 2)
    return replace(
        shape,
        scale=shape.scale * float(factor[0]),
        meniscus_width=shape.meniscus_width * float(factor[1]),
        condyle_radius=shape.condyle_radius * float(factor[2]),
        coronal_radius=shape.coronal_radius * float(factor[3]),
        relief_seed=int(rng.integers(2**31)),
    )

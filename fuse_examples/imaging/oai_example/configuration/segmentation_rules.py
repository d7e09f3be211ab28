"""Rules over several keys of segmentation."""

from collections.abc import Iterator

from fuse_examples.imaging.oai_example.configuration.draft import Draft
from fuse_examples.imaging.oai_example.configuration.origin import Problem
from fuse_examples.imaging.oai_example.configuration.sides import STRUCTURE_WORDS, names_a_side
from fuse_examples.imaging.oai_example.configuration.wording import did_you_mean, listed, shown


def default_names(num_classes: int) -> tuple[str, ...]:
    """Names of labels 1, 2, ... where the user gives none."""
    return tuple(f"structure_{label}" for label in range(1, num_classes))


def a_name_for_each_structure(draft: Draft) -> Iterator[Problem]:
    """structure_names has one name for each label but the background."""
    names, num_classes = draft["structure_names"], draft["num_classes"]
    if names is not None and len(names) != num_classes - 1:
        yield draft.problem(
            f"structure_names has {len(names)} name{'' if len(names) == 1 else 's'}, but num_classes: {num_classes} makes "
            f"{num_classes - 1} without the background",
            "structure_names",
            "num_classes",
        )


def sheets_are_structures(draft: Draft) -> Iterator[Problem]:
    """thickness_structures names structures."""
    names = draft["structure_names"] or default_names(draft["num_classes"])
    for name in draft["thickness_structures"] or ():
        if name not in names:
            key = "thickness_structures"
            yield draft.problem(f"{key} names '{name}', which is not among the structures{did_you_mean(name, names)}", key)


def losses_fit_the_activation(draft: Draft) -> Iterator[Problem]:
    """class_weights has a weight for each output, and include_background is for outputs that have a background."""
    independent = draft["activation"] == "sigmoid"
    if independent and draft["include_background"]:
        text = "include_background is true, which activation 'sigmoid' has no use for: it has no output for the background"
        yield draft.problem(text, "include_background")
    weights, wanted = draft["class_weights"], draft["num_classes"] - independent
    if weights is not None and len(weights) != wanted:
        yield draft.problem(
            f"class_weights has {len(weights)} weight{'' if len(weights) == 1 else 's'}, but num_classes: {draft['num_classes']} with "
            f"activation '{draft['activation']}' needs {wanted}",
            "class_weights",
        )


def whole_volumes_or_patches(draft: Draft) -> Iterator[Problem]:
    """At most one of resize_to and patch_size, and the keys of patches only with patches."""
    if draft["resize_to"] is not None and draft["patch_size"] is not None:
        yield draft.problem("resize_to and patch_size are both set; set one, the other to null", "resize_to", "patch_size")
    if draft["resize_to"] is not None and draft["patch_size"] is None and draft["test_ckpt"] is None:
        for key, default in (("spacing", None), ("foreground_share", 0.33), ("patches_per_case", 1), ("overlap", 0.5)):
            if draft[key] != default:
                yield draft.problem(f"{key} is set, which needs patch_size; set patch_size, or {key} to {shown(default)}", key)


def flips_know_the_sides(draft: Draft) -> Iterator[Problem]:
    """Where labels name left and right, a left-right flip must know which names change places."""
    names = draft["structure_names"] or default_names(draft["num_classes"])
    key = "augmentation.flip_label_pairs"
    paired = [name for pair in draft[key] or () for name in pair]
    for name in dict.fromkeys(paired):
        if name not in names:
            yield draft.problem(f"{key} names '{name}', which is not among the structures{did_you_mean(name, names)}", key)
        elif paired.count(name) > 1:
            yield draft.problem(f"{key} names '{name}' more than once; a structure changes places with one other", key)
    sided = [name for name in names if names_a_side(name, STRUCTURE_WORDS) and name not in paired]
    if sided and "left_right" in draft["augmentation.flip_axes"]:
        yield draft.problem(
            f"augmentation.flip_axes has left_right, but the name of {listed(sided)} says a side; give {key} the names that change places, "
            "for example [[left_kidney, right_kidney]], or leave left_right out",
            "augmentation.flip_axes",
        )


def elastic_fields_do_not_fold(draft: Draft) -> Iterator[Problem]:
    """Elastic displacements are at most a sixth of the distance of the points they are drawn at."""
    largest, apart = draft["augmentation.elastic_mm"], draft["augmentation.elastic_spacing_mm"]
    if largest > apart / 6:
        key = "augmentation.elastic_mm"
        limit = f"{shown(apart / 6)}, a sixth of augmentation.elastic_spacing_mm"
        yield draft.problem(f"{key} is {shown(largest)}; above {limit}, tissue could fold over itself", key)

"""Rules over several keys of segmentation."""

from collections.abc import Iterator, Mapping, Sequence

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
    names = draft["regions"] or draft["structure_names"] or default_names(draft["num_classes"])
    for name in draft["thickness_structures"] or ():
        if name not in names:
            key = "thickness_structures"
            yield draft.problem(f"{key} names '{name}', which is not among the structures{did_you_mean(name, names)}", key)


def outer_first(regions: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    """Regions by falling number of labels, so that each stands before those inside it, whatever their order in the file."""
    ordered = sorted((regions or {}).items(), key=lambda region: -len(region[1]))
    return {name: tuple(labels) for name, labels in ordered}


def own_labels(regions: Sequence[Sequence[int]]) -> list[list[int]]:
    """Labels of each region that no later one has."""
    later = [{label for other in regions[place + 1 :] for label in other} for place in range(len(regions))]
    return [[label for label in region if label not in after] for region, after in zip(regions, later, strict=True)]


def regions_can_be_written(draft: Draft) -> Iterator[Problem]:
    """regions are unions of labels, judged each on its own, of which a mask with one label a voxel can be made and unmade."""
    regions, num_classes = draft["regions"], draft["num_classes"]
    if regions is None:
        return
    names = list(draft["structure_names"] or default_names(num_classes))
    if draft["activation"] != "sigmoid":
        yield draft.problem("regions is set, but activation 'softmax' makes structures exclude each other; set it to sigmoid", "activation")
    if draft["augmentation.flip_label_pairs"]:
        text = "augmentation.flip_label_pairs is set together with regions, whose outputs it cannot exchange; leave one of them out"
        yield draft.problem(text, "augmentation.flip_label_pairs")
    for (name, labels), own in zip(outer_first(regions).items(), own_labels(list(outer_first(regions).values())), strict=True):
        if name in names and labels != (names.index(name) + 1,):
            text = f"regions.{name} is also the name of label {names.index(name) + 1}, which is not the same; give it another"
            yield draft.problem(text, "regions")
        for label in labels:
            if label >= num_classes:
                text = f"regions.{name} has the label {label}, but num_classes: {num_classes} makes labels 1 to {num_classes - 1}"
                yield draft.problem(text, "regions")
        if len(own) != 1:
            found = f"{listed(list(map(str, sorted(own))))} are in none" if own else "each of its labels is in one"
            yield draft.problem(
                f"regions.{name} needs one label that no region inside it has, for the masks to be written; {found}. "
                "Regions lie one in another or apart",
                "regions",
            )


def losses_fit_the_activation(draft: Draft) -> Iterator[Problem]:
    """class_weights has a weight for each output, and include_background is for outputs that have a background."""
    independent = draft["activation"] == "sigmoid"
    if independent and draft["include_background"]:
        text = "include_background is true, which activation 'sigmoid' has no use for: it has no output for the background"
        yield draft.problem(text, "include_background")
    weights, wanted = draft["class_weights"], draft["num_classes"] - independent
    of_regions = draft["regions"] is not None
    wanted = len(draft["regions"]) if of_regions else wanted
    if weights is not None and len(weights) != wanted:
        yield draft.problem(
            f"class_weights has {len(weights)} weight{'' if len(weights) == 1 else 's'}, but "
            + ("regions" if of_regions else f"num_classes: {draft['num_classes']} with activation '{draft['activation']}'")
            + f" needs {wanted}",
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

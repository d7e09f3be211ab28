"""Names that say left or right."""

import re

STRUCTURE_WORDS = frozenset({"l", "r", "left", "right", "lh", "rh"})
TARGET_WORDS = STRUCTURE_WORDS | {"side", "laterality"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def names_a_side(name: str, words: frozenset[str]) -> bool:
    """Whether one of `words` stands in a name as a word of its own: "left_kidney", "kidney-R", "LeftFemur"; not "lateral", "liver"."""
    return any(word.lower() in words for word in _WORD.findall(name))

"""Left or right, as a description says it."""

import re

LEFT, RIGHT = "LEFT", "RIGHT"
_WORDS = {"left": LEFT, "right": RIGHT}
_LETTERS = {"l": LEFT, "r": RIGHT}


def side_in(text: str) -> str:
    """Return LEFT or RIGHT if `text` names just one of them as a word, or ends in L or R as a word of its own; else "".

    "SAG_3D_DESS_LEFT" and "COR IW TSE L" name a side; "L SPINE", "LOCALIZER_LEFT_RIGHT" and "BRIGHT" do not.
    """
    words = re.findall(r"[a-z]+", text.lower())
    named = {_WORDS[word] for word in words if word in _WORDS}
    if not named and words and words[-1] in _LETTERS:
        named = {_LETTERS[words[-1]]}
    return named.pop() if len(named) == 1 else ""


def side_of_code(code: str) -> str:
    """Return LEFT or RIGHT for L or R, as DICOM's laterality attributes have it; else ""."""
    return _LETTERS.get(code.strip().lower(), "")

"""One spelling for a fold, whether it comes from a CSV cell, a YAML value or a key=value word."""

import re
from math import isfinite, isnan

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def fold_name(value: object) -> str:
    """Return the text that stands for a fold: 0, "0", 0.0 and "0.0" are "0"; True and "TRUE" are "true"; "a" is "a".

    A column of whole numbers with one empty cell becomes floats in most programs that write CSV files, and YAML reads an unquoted
    number as a number: whatever looks like a number is therefore compared as one. Surrounding blanks do not count.

    Raises:
        ValueError: for an empty value, a NaN, or a value that is neither text nor a number.
    """
    if hasattr(value, "item"):  # a NumPy scalar, without importing NumPy
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and not isnan(value):
        return _number_name(value)
    if not isinstance(value, str) or value.strip().lower() in {"", "nan"}:
        raise ValueError(f"a fold must be text or a number, found {_shown(value)}")
    return _text_name(value.strip())


def _text_name(text: str) -> str:
    if _INTEGER.fullmatch(text):  # not through int(): any number of digits
        digits = text.lstrip("+-").lstrip("0") or "0"
        return f"-{digits}" if text.startswith("-") and digits != "0" else digits
    if _NUMBER.fullmatch(text) and isfinite(float(text)):
        return _number_name(float(text))
    return text.lower() if text.lower() in {"true", "false"} else text


def _number_name(number: float) -> str:
    return str(int(number)) if isfinite(number) and number == int(number) else repr(number)


def _shown(value: object) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "nothing"
    return f"{value!r}"

"""How several problems of one kind are put into one readable message."""

from collections.abc import Iterable, Sequence

SHOWN = 20


def shortened(problems: Sequence[str], shown: int = SHOWN) -> tuple[str, ...]:
    """Return the first problems and, when there are more, a line that counts the rest."""
    if len(problems) <= shown:
        return tuple(problems)
    return (*problems[:shown], f"... and {len(problems) - shown} more")


def rows_in_words(rows: Iterable[int], shown: int = SHOWN) -> str:
    """Return "row 3", "rows 3, 5 and 7" or, for many, "rows 3, 5, 7, ... and 40 more"."""
    numbers = [str(row) for row in rows]
    if len(numbers) == 1:
        return f"row {numbers[0]}"
    if len(numbers) > shown:
        return f"rows {', '.join(numbers[:shown])}, ... and {len(numbers) - shown} more"
    return f"rows {', '.join(numbers[:-1])} and {numbers[-1]}"

"""The patient in a name or a path, by an expression of the user's."""

import re

from fuse_examples.imaging.oai_example.errors import DataError


def patient_pattern(text: str) -> re.Pattern[str]:
    """Compile the expression of `--patient`; raise `DataError` where it is none or has no group for the patient."""
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise DataError(f"--patient {text}: is not a regular expression ({error}).") from error
    if compiled.groups < 1:
        raise DataError(f"--patient {text}: has no group in parentheses, which is to be the patient.")
    return compiled

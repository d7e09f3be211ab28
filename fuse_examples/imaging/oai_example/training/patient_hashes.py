"""Which patients a network has seen, without their names: salted hashes that travel in checkpoints.

Each list has a salt of its own, so that two checkpoints cannot be matched with each other. Identifiers that can be counted through (seven
digits, say) can still be tried one by one by whoever has the checkpoint: the hashes keep names from being read, not from being guessed.
"""

import hashlib
import secrets
from collections.abc import Iterable

SEPARATOR = ":"


def hash_patients(ids: Iterable[object], salt: str | None = None) -> list[str]:
    """Return one "salt:hash" text per patient, sorted, without repeats. `salt`: hexadecimal; a fresh one when it is None."""
    salt = secrets.token_hex(8) if salt is None else salt
    return sorted({_hash(str(patient), salt) for patient in ids})


def add_patients(hashes: Iterable[str], ids: Iterable[object]) -> list[str]:
    """Return `hashes` and those of `ids` that are not among them yet, sorted; resuming a run again and again adds nothing."""
    known, ids = list(hashes), list(map(str, ids))
    there = set(overlap(ids, known))
    return sorted({*known, *hash_patients(name for name in ids if name not in there)})


def overlap(ids: Iterable[object], hashes: Iterable[str]) -> list[str]:
    """Return those of `ids`, in their order and once each, whose hash is among `hashes` (which may mix several salts)."""
    known = set(hashes)
    salts = {entry.split(SEPARATOR)[0] for entry in known}
    return [name for name in dict.fromkeys(map(str, ids)) if any(_hash(name, salt) in known for salt in salts)]


def _hash(patient: str, salt: str) -> str:
    digest = hashlib.blake2b(patient.strip().encode(), key=salt.encode(), digest_size=16).hexdigest()
    return f"{salt}{SEPARATOR}{digest}"

"""The verdict on a weight file: what of it reached the network, what did not, and what of the network is new."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Coverage:
    """How many tensors of one half of a network were found in a file."""

    loaded: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1; 1 for a half that the network does not have."""
        return self.loaded / self.total if self.total else 1.0

    def __str__(self) -> str:
        return f"{self.loaded} of {self.total} tensors ({self.share:.0%})" if self.total else "not in this network"


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a weight file and of a backbone. Names are state-dict names, buffers included.

    Attributes:
        key, path: the configuration key and the file it named.
        source: whose layout the file has.
        network: the backbone's catalogue name.
        matched: loaded, the same name and shape in file and network.
        missing: in the network only; these stay newly initialised.
        unexpected: in the file only, and not known by name.
        dropped: reason -> names of the file that are known and not needed.
        shape_mismatches: (name, shape in the file, shape in the network); these stay newly initialised.
        encoder, decoder: how much of each half was loaded.
        adapted: how a tensor was changed to fit -> names of such tensors, which count as loaded.
        licence: what is known of the licence of such weights; "" where the file's own metadata has it.
        adaptations: what was changed in the network to suit the weights, and what to know about them, a sentence each.
    """

    key: str
    path: str
    source: str
    network: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    dropped: Mapping[str, tuple[str, ...]]
    shape_mismatches: tuple[tuple[str, Shape, Shape], ...]
    encoder: Coverage
    decoder: Coverage
    adapted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    licence: str = ""
    adaptations: tuple[str, ...] = ()

    @property
    def new(self) -> tuple[str, ...]:
        """Names of the network that the file did not fill."""
        return self.missing + tuple(name for name, _, _ in self.shape_mismatches)

    def as_text(self) -> str:
        """A short table for the log."""
        rows = [
            ("source", self.source),
            *([("licence", self.licence)] if self.licence else []),
            ("encoder", str(self.encoder)),
            ("decoder", str(self.decoder)),
        ]
        rows += [("adapted", f"{len(names)} ({how}: {_some(names)})") for how, names in self.adapted.items()]
        rows += [("new", _new(self.new))]
        rows += [("dropped", f"{len(names)} ({reason}: {_some(names)})") for reason, names in self.dropped.items()]
        if self.unexpected:
            rows.append(("unexpected", f"{len(self.unexpected)} ({_some(self.unexpected)})"))
        rows += [("shape", f"{name}: file {file}, network {network}") for name, file, network in self.shape_mismatches[:3]]
        if len(self.shape_mismatches) > 3:
            rows.append(("shape", f"… {len(self.shape_mismatches)} in all"))
        rows += [("note", sentence) for sentence in self.adaptations]
        return "\n".join([f"{self.key}: {self.path} -> {self.network}", *(f"  {head:<11}{text}" for head, text in rows)])

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "key": self.key,
            "path": self.path,
            "source": self.source,
            "network": self.network,
            "encoder": {"loaded": self.encoder.loaded, "total": self.encoder.total, "share": self.encoder.share},
            "decoder": {"loaded": self.decoder.loaded, "total": self.decoder.total, "share": self.decoder.share},
            "matched": list(self.matched),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "dropped": {reason: list(names) for reason, names in self.dropped.items()},
            "shape_mismatches": [
                {"name": name, "file": list(file), "network": list(network)} for name, file, network in self.shape_mismatches
            ],
            "adapted": {how: list(names) for how, names in self.adapted.items()},
            "licence": self.licence,
            "adaptations": list(self.adaptations),
        }


def _new(names: tuple[str, ...]) -> str:
    counters = sum(name.endswith("num_batches_tracked") for name in names)
    inside = f" ({counters} of them num_batches_tracked counters)" if counters else ""
    return f"{len(names)} tensors of the backbone{inside}; heads always start new" if names else "heads only"


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")

"""What the configurations of all entry scripts have: where each value came from, and the way back to YAML."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import PrivateAttr

from fuse_examples.imaging.oai_example.configuration.origin import DEFAULT, Origin
from fuse_examples.imaging.oai_example.configuration.settings import Settings, settings_of
from fuse_examples.imaging.oai_example.configuration.wording import did_you_mean, plain
from fuse_examples.imaging.oai_example.configuration.yaml_source import write_text


class ScriptConfig(Settings):
    """What one entry script is told: frozen, with its script, its rules over several keys and its further flags.

    Attributes:
        script: the entry script, from the checkout's root.
        RULES: generators of problems; see `configuration.rules`.
        FLAGS: flags besides --config, --check and --help, with their meanings, for `--help`.
    """

    script: ClassVar[str]
    RULES: ClassVar[tuple[Any, ...]] = ()
    FLAGS: ClassVar[Mapping[str, str]] = {}

    _origins: Mapping[str, Origin] = PrivateAttr(default_factory=dict)

    def origin(self, key: str) -> Origin:
        """Where the value of a dotted key came from.

        Raises:
            KeyError: for a key that is not a setting.
        """
        if key not in settings_of(type(self)):
            raise KeyError(f"no setting '{key}'{did_you_mean(key, settings_of(type(self)))}")
        return self._origins.get(key, DEFAULT)

    def with_origins(self, origins: Mapping[str, Origin]) -> Self:
        """The same configuration, knowing where its values came from."""
        copy = self.model_copy()
        copy._origins = dict(origins)
        return copy

    def dump(self) -> dict[str, Any]:
        """The whole configuration as plain values: text for paths, lists for sequences. A safe checkpoint takes it."""
        dumped: dict[str, Any] = plain(self)
        return dumped

    def as_yaml(self) -> str:
        """The whole configuration as YAML text that `load_config` reads back as the same values."""
        return write_text(self.dump())

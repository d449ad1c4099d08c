"""A config loader that composes the config of a sweep's jobs once.

Hydra takes 0.25 s to compose a config, longer than most jobs take. Jobs that differ in plain values (``epoch``,
``threshold``) share one composed config; the values are set in a copy.
"""

import pickle
import re
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException


class SharedConfigs:
    """Wraps Hydra's loader; can be pickled for other processes."""

    def __init__(self, inner: ConfigLoader) -> None:
        self.inner = inner
        self._groups = frozenset(inner.list_groups(""))
        self._composed: dict[tuple[str, ...], tuple[frozenset[str], bytes]] = {}

    def __getattr__(self, name: str) -> Any:
        """Everything else is Hydra's."""
        if name.startswith("__"):  # pickle asks for these before ``inner`` is set
            raise AttributeError(name)
        return getattr(self.inner, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The config of one job."""
        # A choice in a group, an addition or a deletion changes the composition; a plain value does not.
        shared = tuple(text if self._is_structural(text) else text.partition("=")[0] for text in sweep_overrides)
        if shared not in self._composed:
            first = self.inner.load_sweep_config(master_config, sweep_overrides)
            self._composed[shared] = frozenset(sweep_overrides), pickle.dumps(first)
        same, composed = self._composed[shared]
        config: DictConfig = pickle.loads(composed)
        with read_write(config.hydra), open_dict(config.hydra):
            for override in OverridesParser.create().parse_overrides([x for x in sweep_overrides if x not in same]):
                try:
                    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
                except OmegaConfBaseException as error:
                    raise ConfigCompositionException(f"Could not override '{override.input_line}'.\n{error}") from error
            config.hydra.overrides.task = [text for text in sweep_overrides if not text.startswith("hydra")]
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _is_structural(self, text: str) -> bool:
        key = text.partition("=")[0]
        return re.fullmatch(r"[A-Za-z_][\w.]*", key) is None or key in self._groups

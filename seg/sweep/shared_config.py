"""Hydra's config loader, composing once what the jobs of a sweep have in common.

Composing takes Hydra longer than most jobs take: it reads a dozen files each time. Jobs that differ only in
plain values (``epoch``, ``threshold``) differ in a few nodes of one tree, so that tree is composed once and
the values are set in a copy, by the same update that Hydra uses. A choice in a config group, an addition or a
deletion is composed anew.
"""

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

_PLAIN = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Template:
    """What Hydra composed for the first of some jobs.

    Attributes:
        overrides: that job's. whole: its config, pickled. own: the same without the node ``hydra``.
    """

    overrides: frozenset[str]
    whole: bytes
    own: bytes


class SharedConfigs:
    """Wraps Hydra's loader; only how a job's config is made is its own. Can be pickled, for other processes."""

    def __init__(self, inner: ConfigLoader) -> None:
        self.inner = inner
        self._groups: frozenset[str] | None = None
        self._values: dict[str, Any] = {}
        self._templates: dict[tuple[str, ...], Template] = {}

    def __getattr__(self, name: str) -> Any:
        """The rest is Hydra's."""
        if name.startswith("__"):  # as pickle asks, before there is an inner one
            raise AttributeError(name)
        return getattr(self.inner, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The config of one job."""
        template = self._template(master_config, sweep_overrides)
        config = self._filled(template, template.whole, sweep_overrides)
        self._describe(config, master_config, sweep_overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def own_part(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The same without what is Hydra's, which is most of it: enough to tell what a job would do."""
        template = self._template(master_config, sweep_overrides)
        return self._filled(template, template.own, [x for x in sweep_overrides if not x.startswith("hydra")])

    def _template(self, master: DictConfig, overrides: list[str]) -> "Template":
        signature = self.signature(overrides)
        if signature not in self._templates:
            config = self.inner.load_sweep_config(master, overrides)
            own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            self._templates[signature] = Template(frozenset(overrides), pickle.dumps(config), pickle.dumps(own))
        return self._templates[signature]

    def _filled(self, template: "Template", pickled: bytes, overrides: Sequence[str]) -> DictConfig:
        config: DictConfig = pickle.loads(pickled)
        for text in overrides:
            if text not in template.overrides and not self._is_structural(text):
                self._set(config, text)
        return config

    def signature(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """What jobs share that differ in plain values only."""
        return tuple(text if self._is_structural(text) else text.partition("=")[0] for text in overrides)

    def _is_structural(self, text: str) -> bool:
        """Whether an override can change which files are composed."""
        found = _PLAIN.fullmatch(text)
        if found is None:
            return True
        if self._groups is None:
            self._groups = frozenset(self.inner.list_groups(""))
        return found.group(1) in self._groups

    def _set(self, config: DictConfig, text: str) -> None:
        if text not in self._values:
            override = OverridesParser.create().parse_override(text)
            self._values[text] = override.key_or_group, override.value()
        key, value = self._values[text]
        try:
            OmegaConf.update(config, key, value, merge=True)
        except OmegaConfBaseException as error:
            raise ConfigCompositionException(f"Could not override '{key}'.\n{error}") from error

    def _describe(self, config: DictConfig, master: DictConfig, overrides: Sequence[str]) -> None:
        """What Hydra says about the job within the job's config."""
        task = [text for text in overrides if not text.startswith("hydra")]
        look = config.hydra.job.config.override_dirname
        named = [text.split("=", 1) for text in sorted(task)]
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.overrides.task = task
            config.hydra.overrides.hydra = [
                *master.hydra.overrides.hydra,
                *(text for text in overrides if text.startswith("hydra")),
            ]
            config.hydra.job.override_dirname = look.item_sep.join(
                look.kv_sep.join(pair) for pair in named if pair[0] not in look.exclude_keys
            )

"""Instantiates the stages that a composed config describes."""

import dataclasses
import functools
import importlib
import inspect
import re
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg.errors import SegError, did_you_mean

_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
_ABSENT = object()
_BROKEN = object()


def make_objects(
    cfg: DictConfig, key: str, made: dict[str, Any] | None = None, objects: dict[Any, Any] | None = None
) -> Any:
    """Instantiate a config node: ``_target_`` names the class, the other keys are its arguments.

    Unlike Hydra's ``instantiate``, a node that several references name becomes one object, and each node is resolved
    once, which is a hundred times as fast for a run's tree. A sweep does this for every job.

    Args:
        cfg: the whole config.
        key: of the node, with dots.
        made: objects of this config by key, to be reused; new ones are added.
        objects: objects of any config by class and arguments, to be reused; new ones are added.

    Raises:
        SegError: unknown parameters and invalid values, all in one message with their config keys.
    """
    maker = _Maker(cfg, {} if made is None else made, {} if objects is None else objects)
    value = maker.reference(key)
    if maker.problems or maker.refused:
        refused = [f"{path}: {message}" for message, path in maker.refused.items()]
        raise SegError("; ".join(sorted({*maker.problems, *refused})))
    return value


class _Maker:
    def __init__(self, cfg: DictConfig, made: dict[str, Any], objects: dict[Any, Any]) -> None:
        self.cfg = cfg
        self.made = made
        self.objects = objects
        self.problems: list[str] = []
        self.refused: dict[str, str] = {}  # the shortest path by message

    def reference(self, key: str, at: str = "") -> Any:
        if key not in self.made:
            node = self.select(key)
            if node is _ABSENT:
                raise SegError(f"{key}: no such key{at}, or a group above it is none; --cfg job shows all keys")
            self.made[key] = self.make(node, key)
        return self.made[key]

    def make(self, value: Any, path: str) -> Any:
        if isinstance(value, str) and "${" in value:
            found = _REFERENCE.fullmatch(value)
            # OmegaConf resolves everything but a plain reference.
            return (
                self.reference(found.group(1), f" ({path} refers to it)") if found else self.select(path, resolve=True)
            )
        if isinstance(value, list):
            return [self.make(child, f"{path}.{i}") for i, child in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if path not in self.made:
            self.made[path] = self.node(value, path)
        return self.made[path]

    def node(self, value: dict[str, Any], path: str) -> Any:
        target = self.make(value["_target_"], f"{path}._target_") if "_target_" in value else None
        cls = self.find(str(target), path) if target else None
        unknown = []
        if isinstance(cls, type) and dataclasses.is_dataclass(cls):
            names = _field_names(cls)
            unknown = [k for k in value if k not in names and k != "_target_"]
            has_none = f"{cls.__name__} has no such parameter"
            self.problems += [f"{path}.{k}: {has_none}{did_you_mean(k, names)}" for k in unknown]
        values = {k: self.make(child, f"{path}.{k}") for k, child in value.items() if k != "_target_"}
        if unknown or any(child is _BROKEN for child in values.values()):
            return _BROKEN  # reported once, not again where it is referred to
        if target is None:
            return values
        if cls is None:
            return _BROKEN
        same = (cls, _frozen(values))
        if same in self.objects:
            return self.objects[same]
        try:
            # from_config may return another stage: given weights instead of a training.
            made = self.objects[same] = getattr(cls, "from_config", cls)(**values)
            return made
        except (SegError, TypeError) as error:  # a TypeError: a required parameter is missing
            self.refused[str(error)] = min(self.refused.get(str(error), path), path, key=len)
        return _BROKEN

    def select(self, key: str, resolve: bool = False) -> Any:
        try:
            node = OmegaConf.select(self.cfg, key, default=_ABSENT, throw_on_missing=True)
            if isinstance(node, Container):
                return OmegaConf.to_container(node, resolve=resolve, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise SegError(f"{key}: {str(error).splitlines()[0]}") from error
        return node

    def find(self, target: str, path: str) -> Any:
        """A class by its dotted name, which may be a user's own."""
        place, _, name = target.rpartition(".")
        try:
            return getattr(importlib.import_module(place), name)
        except Exception as error:
            self.problems.append(
                f"{path}._target_={target}: no such class ({type(error).__name__}: {error}); give a whole dotted name "
                "that Python finds from this folder or by PYTHONPATH"
            )
        return None


@functools.cache
def _field_names(cls: type) -> frozenset[str]:
    own = {f.name for f in dataclasses.fields(cls)}
    chooser = getattr(cls, "from_config", None)
    return frozenset(own | ({*inspect.signature(chooser).parameters} - {"values"} if chooser else set()))


def _frozen(value: Any) -> Any:
    """Arguments as a hashable value."""
    if isinstance(value, dict):
        return tuple((k, _frozen(v)) for k, v in sorted(value.items()))
    if isinstance(value, list):
        return tuple(_frozen(v) for v in value)
    return (type(value), value)

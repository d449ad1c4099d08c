"""A stage: a frozen dataclass whose fields are its parameters and the stages it needs.

The tree of stages that the config describes is the dependency graph, and the hash of a stage's class, code, parameters
and upstream stages is the name under which its product is stored.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from seg.store.code_hash import code_hash
from seg.store.manifest import is_intact, read_manifest
from seg.store.parameters import Parameters
from seg.store.runtime import Runtime


class Products(Protocol):
    """The part of :class:`seg.store.Store` that stages use."""

    @property
    def runtime(self) -> Runtime: ...
    @property
    def on_epoch(self) -> "Callable[[Any], None] | None": ...
    def get(self, stage: "Stage") -> Any: ...
    def ensure(self, stage: "Stage") -> None: ...
    def has(self, stage: "Stage") -> bool: ...
    def folder(self, stage: "Stage") -> Path: ...
    def write_manifest(
        self, stage: "Stage", folder: Path, seconds: float, extra: Mapping[str, Any], without: Collection[str] = ()
    ) -> None: ...


class Stage(Parameters):
    """Base of all stages.

    Subclasses implement :meth:`load`, and :meth:`build` unless ``stored`` is False. A product must be a function of
    the code, the parameters and the upstream products alone; the rest is :class:`seg.store.Runtime`.

    Attributes:
        stored: False for products that are cheaper to compute than to read.
        in_place: True for a product that grows in its folder (a training); any other build is atomic.
        what: a few words for tables and plans.
        log_level: of the lines about a build.
    """

    has_key: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    in_place: ClassVar[bool] = False
    what: ClassVar[str] = ""
    log_level: ClassVar[int] = logging.INFO

    def check(self, store: Products) -> None:
        """Raise a SegError for what would fail later, such as a missing file, before any long work."""

    def build(self, out: Path, store: Products) -> Mapping[str, Any] | None:
        """Write the product's files below ``out``; the result is stored as the manifest's notes."""
        raise TypeError(f"{type(self).__name__} has no build()")

    def load(self, path: Path, store: Products) -> Any:
        """Return the product. Should be cheap, as by memory-mapping. ``path`` is unused if not ``stored``."""
        raise TypeError(f"{type(self).__name__} has no load()")

    def files_to_load(self, manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
        """The manifest's entries of the files that :meth:`load` opens; None if one of them is missing."""
        files: list[Mapping[str, Any]] = manifest["files"]
        return files

    def is_complete(self, folder: Path) -> bool:
        """Whether ``folder`` has all files that this stage needs, in the size in which they were written."""
        manifest = read_manifest(folder)
        files = self.files_to_load(manifest) if manifest is not None else None
        return files is not None and all(is_intact(folder, entry) for entry in files)

    def upstream(self) -> dict[str, "Stage"]:
        """The stages this one needs, by field name: all that its ``build`` and ``load`` may ask the store for."""
        return {f.name: v for f in dataclasses.fields(self) if isinstance(v := getattr(self, f.name), Stage)}

    @cached_property
    def key(self) -> str:
        """16 hex digits that name the product's folder: equal keys, equal products."""
        identity = {
            "stage": type(self).__name__,
            "code": sorted({code_hash(cls) for cls in self.code_classes()}),
            "params": self.params(),
            "upstream": {name: stage.id for name, stage in self.upstream().items()},
        }
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def id(self) -> str:
        """``Stage/key``, for a training with its epoch: what downstream stages depend on."""
        return f"{type(self).__name__}/{self.key}"

    def walk(self) -> Iterator["Stage"]:
        """Every stage of the tree once (by id), upstream first, this one last."""
        seen: set[str] = set()

        def visit(stage: "Stage") -> Iterator["Stage"]:
            if stage.id not in seen:
                seen.add(stage.id)
                for up in stage.upstream().values():
                    yield from visit(up)
                yield stage

        return visit(self)

    @cached_property
    def is_oracle(self) -> bool:
        """Whether ground truth that weak labels do not have was used, here or upstream; tables mark it."""
        return any(stage.is_oracle for stage in self.upstream().values())

    @cached_property
    def trained_on_masks(self) -> bool:
        """Whether a network pretrained on masks of other images was used, here or upstream; tables mark it."""
        return any(stage.trained_on_masks for stage in self.upstream().values())

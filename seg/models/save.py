"""Saves the networks of a run: plain weights, each with a JSON description."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save

from seg.config.process import command, given_overrides
from seg.data.dataset import FOREGROUND
from seg.data.prepared import Prepared, PreparedData
from seg.evaluation.table import plain
from seg.files import atomic_path, file_sha256, write_json, write_lines
from seg.models.card import model_card
from seg.nets.augment import MEAN, STD
from seg.nets.checkpoints import METADATA, description
from seg.segmenter.architectures import Architecture, name_of
from seg.segmenter.segmenter import Segmenter
from seg.store import Stage, Store
from seg.train import NetworkStage, Pretrained, Training
from seg.version import __version__

#: Entries of the JSON about the run. They are not in the file of weights, so that equal networks are equal files.
OF_THE_RUN = ("weakseg", "given", "metrics", "command")


def save_models(
    folder: Path,
    masks: Mapping[str, Stage],
    rows: Sequence[Mapping[str, Any]],
    prepared: Prepared,
    store: Store,
) -> list[Path]:
    """Write every network of a run, trained or given, as ``<role>.safetensors`` and ``<role>.json``.

    Of several networks of a role, the last has that name, the others are ``<role>_1`` and so on. The weights are a
    plain state dict, with torchvision's names if the network is torchvision's; the file's metadata describe the network
    too. ``checkpoints.<role>=`` loads it again.

    Args:
        folder: created if missing. masks: of the run by name, built. rows: of the table.
        prepared: the run's images.

    Returns:
        The weights' files.
    """
    users: dict[str, tuple[NetworkStage, list[str]]] = {}
    for name, top in masks.items():
        networks = [s for s in top.walk() if isinstance(s, NetworkStage) and s.role]
        for stage in networks:
            users.setdefault(stage.id, (stage, []))
        if networks:  # the metrics are those of the last network
            users[networks[-1].id][1].append(name)
    written: list[Path] = []
    described: dict[str, dict[str, Any]] = {}
    total = Counter(stage.role for stage, _ in users.values())
    seen: Counter[str] = Counter()
    for stage, names in users.values():
        seen[stage.role] += 1
        number = "" if seen[stage.role] == total[stage.role] else f"_{seen[stage.role]}"
        path = folder / f"{stage.role}{number}.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        about = describe(stage, [row for row in rows if row.get("stage") in names], prepared, store)
        _write_weights(stage, path, {k: v for k, v in about.items() if k not in OF_THE_RUN}, store)
        write_json(path.with_suffix(".json"), {**about, "sha256": file_sha256(path)}, synced=True)
        written.append(path)
        described[path.stem] = about
    if described:
        write_lines(folder / "README.md", model_card(described).splitlines())
    return written


def _write_weights(stage: NetworkStage, path: Path, about: Mapping[str, Any], store: Store) -> None:
    """Write a copy, not a link: editing it must not change the store."""
    state = load_file(store.checked_folder(stage) / stage.file_name)
    with atomic_path(path, synced=True) as tmp:
        tmp.write_bytes(save(state, {METADATA: json.dumps(about, sort_keys=True)}))


def describe(
    stage: NetworkStage, rows: Sequence[Mapping[str, Any]], prepared: Prepared, store: Store
) -> dict[str, Any]:
    """A network's description as JSON values; arguments as for `save_models`."""
    data: PreparedData = store.get(prepared)
    design = stage.design
    # Only its own description knows what a given network was trained on.
    given = description(stage.path) if isinstance(stage, Pretrained) else None
    origin = given if given is not None else {"data": data.title, "licence": prepared.source.licence}
    overrides = given_overrides()
    pool = design.pool if isinstance(design, Segmenter) else None
    task, names = (pool.task, pool.classes_of(data)) if pool else ("foreground", (FOREGROUND,))
    return {
        "weakseg": __version__,
        "role": stage.role,
        **({} if task == "foreground" else {"task": task}),
        "architecture": _architecture(design),
        **({"image_labels": labels} if (labels := design.shape().get("image_labels")) else {}),
        "classes": list(data.classes) if stage.role == "classifier" else ["background", *names],
        "mean": list(MEAN),
        "std": list(STD),
        "working_size": data.side,
        "input_size": getattr(design, "input_size", None) or data.side,
        **({"aspect": True} if getattr(design, "crop", None) else {}),
        "epoch": design.wanted if given is None else given.get("epoch"),
        "data": origin.get("data"),
        "licence": origin.get("licence"),
        "oracle": stage.is_oracle,
        "trained_on_masks": stage.trained_on_masks,
        "given": stage.path.name if isinstance(stage, Pretrained) else None,
        "metrics": plain(rows),
        "command": command(overrides, folders=False) if overrides else None,
        "stage": stage.id,
    }


def _architecture(stage: Training) -> dict[str, Any]:
    """The parameters that build the network; of a segmenter with the name of its network, ``class``."""
    net: Architecture | None = getattr(stage, "net", None)
    return stage.shape() if net is None else {"class": name_of(net), **net.bare().params()}

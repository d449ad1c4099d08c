"""Trained networks for people: plain weights with a JSON beside them in the run's folder, and the way back."""

import logging
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg import __version__
from seg.checkpoints import ROLES, beside, fit_into, to_plain
from seg.errors import SegError
from seg.stage import file_sha256
from seg.store import Store, atomic_path, read_json, write_json

if TYPE_CHECKING:
    import torch
    from torch import nn

    from seg.data.prepared import Prepared
    from seg.seeds import Seeds
    from seg.segmenter.networks import Network
    from seg.train import Training

log = logging.getLogger("seg")


# -- from a run to its folder --------------------------------------------------------------------------------


def save_models(
    folder: Path,
    products: "Mapping[str, Seeds]",
    rows: Sequence[Mapping[str, Any]],
    prepared: "Prepared",
    store: Store,
) -> list[Path]:
    """Write every network that a run used, trained or given, as ``<role>.safetensors`` and ``<role>.json``.

    The weights are a plain state dict with torchvision's names where the network is torchvision's; the file is a
    hard link into the store where that is possible. ``checkpoints.<role>=`` takes it back.

    Args:
        folder: is made. products: the run's products by name, all built. rows: the stage table.
        prepared: the run's images.

    Returns:
        The weights' files.
    """
    from seg.train import Training

    users: dict[str, tuple[Training, list[str]]] = {}
    for name, product in products.items():
        trainings = [s for s in product.walk() if isinstance(s, Training) and s.role]
        for stage in trainings:
            users.setdefault(stage.product, (stage, []))
        if trainings:  # what a product measures is the last network on its way
            users[trainings[-1].product][1].append(name)
    written: list[Path] = []
    for stage, names in users.values():
        same = [p for p in written if p.stem.partition("_")[0] == stage.role]
        path = folder / f"{stage.role}{f'_{len(same) + 1}' if same else ''}.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        _write_weights(stage, path, store)
        own = [dict(row) for row in rows if row.get("stage") in names]
        write_json(path.with_suffix(".json"), describe(stage, path, own, prepared, store))
        written.append(path)
    return written


def _write_weights(stage: "Training", path: Path, store: Store) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    store.ensure(stage)
    stored = store.folder(stage) / stage.file_name
    with safe_open(stored, "pt") as file:
        # The network itself knows whether these are the wrapper's names; it is not made to find that they are not.
        may_be_wrapped = all(name.startswith("model.") for name in file.keys())  # noqa: SIM118
    with atomic_path(path) as tmp:
        if may_be_wrapped:
            model: nn.Module = store.get(stage)
            plain = to_plain(model)
            if plain.keys() != model.state_dict().keys():
                save_file(plain, tmp)
                return
        try:
            os.link(stored, tmp)
        except OSError:  # another file system, or one without links
            shutil.copyfile(stored, tmp)


def describe(
    stage: "Training", path: Path, rows: Sequence[Mapping[str, Any]], prepared: "Prepared", store: Store
) -> dict[str, Any]:
    """What somebody who finds only the weights has to know about them, as JSON values.

    Args:
        stage: the network. path: its weights' file. rows: of the stage table, those of its product.
        prepared: the run's images.
    """
    from seg.data.augment import MEAN, STD
    from seg.data.prepared import PreparedData
    from seg.table import plain

    data: PreparedData = store.get(prepared)
    # Of a network that was given, only the JSON beside it knows what it was trained on.
    given = beside(stage.given()) if stage.checkpoint is not None else None
    origin = given if given is not None else {"data": data.title, "licence": prepared.source.licence}
    return {
        "weakseg": __version__,
        "role": stage.role,
        "architecture": architecture(stage),
        "config": config_that_fits(stage),
        "classes": list(data.classes) if stage.role == "classifier" else ["background", "foreground"],
        "mean": list(MEAN),
        "std": list(STD),
        "working_size": data.side,
        "input_size": getattr(stage, "input_size", None) or data.side,
        "epoch": stage.wanted if given is None else given.get("epoch"),
        "data": origin.get("data"),
        "licence": origin.get("licence"),
        "oracle": stage.is_oracle,
        "given": None if given is None else str(stage.checkpoint),
        "metrics": plain(rows),
        "command": command(),
        "stage": f"{type(stage).__name__}/{stage.product}",
        "sha256": file_sha256(path),
    }


def architecture(stage: "Training") -> dict[str, Any]:
    """The parameters that build the network; of a segmenter with the ``_target_`` of its network."""
    net: Network | None = getattr(stage, "net", None)
    if net is None:
        return stage.shape()
    net = net.bare()
    return {"_target_": f"{type(net).__module__}.{type(net).__qualname__}", **net.params()}


def config_that_fits(stage: "Training") -> list[str]:
    """Overrides of a run that takes the network back."""
    shape = stage.shape()
    if stage.role == "classifier":
        return [f"backbone={shape['backbone']}"] + [f"classifier.{k}={shape[k]}" for k in ("stages", "output_stride")]
    if stage.role == "affinity":
        strides = ",".join(map(str, shape["strides"]))
        place = "refiner.scores.affinity"
        sizes = [f"{place}.{k}={shape[k]:g}" for k in ("channels", "radius")]
        return ["refiner=affinity", f"{place}.backbone={shape['backbone']}", f"{place}.strides=[{strides}]", *sizes]
    params = architecture(stage)
    target = str(params.pop("_target_"))
    groups = {"PlainUNet": "unet", "BackboneUNet": "unet_resnet18", "TorchvisionNetwork": "deeplabv3"}
    group = groups.get(target.rpartition(".")[2])
    place = "segmenter.net"
    start = [f"segmenter={group}"] if group else [f"{place}._target_={target}"]
    size = [f"segmenter.input_size={shape['input_size']}"] if shape.get("input_size") else []
    return start + [f"{place}.{k}={v}" for k, v in params.items() if not k.startswith("weights")] + size


def command() -> str | None:
    """The command that repeats the run of this process; None where none was typed."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return None
    overrides = HydraConfig.get().overrides.task
    return " ".join(["python -m seg.run", *(shlex.quote(o) for o in overrides)])


def in_sweep() -> bool:
    """Whether this run is a job of a sweep, whose many folders are not for networks unless that is asked for."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


# -- and back ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A trained segmenter, ready to use; made by :func:`load_model`.

    Attributes:
        network: ``float32 (B, 3, H, W)`` normalised images to ``float32 (B, 1, H, W)`` logits, in ``eval`` mode.
        device: where it is.
        working_size: side in pixels to which images are squashed when they are decoded.
        input_size: side in pixels of what the network sees.
        mean, std: of the RGB channels in [0, 1], for the normalisation.
        info: the JSON beside the weights; empty without one.
        path: the weights' file. sha256: of its bytes.
    """

    network: "nn.Module"
    device: "torch.device"
    working_size: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    info: Mapping[str, Any]
    path: Path
    sha256: str


def find_model(path: Path) -> Path:
    """The segmenter's weights that a run's folder, its ``models`` folder or a file stands for.

    Raises:
        SegError: there is none, with what to do about it.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise SegError(f"model={path}: no such file or folder; give a run's folder or a file of weights")
    folder = path / "models" if (path / "models").is_dir() else path
    if (file := folder / "segmenter.safetensors").is_file():
        return file
    others = [role for role in ROLES if (folder / f"{role}.safetensors").is_file()]
    if not others:
        raise SegError(f"model={path}: no networks in it; give the folder of a finished run, or a file of weights")
    typed = (read_json(folder / f"{others[-1]}.json") or {}).get("command") or "python -m seg.run ..."
    raise SegError(
        f"model={path}: that run has {' and '.join(others)} but no segmenter, which masks for other images need; "
        f"add one to it: {typed} segmenter=unet"
    )


def load_model(path: str | Path, device: str = "auto", input_size: int | None = None) -> Model:
    """Load a segmenter for :func:`seg.predict`.

    Args:
        path: a run's folder, or a file of plain weights (``.safetensors``, ``.pth``). The JSON beside it says
            what it is; without one the architecture is recognised from the names and shapes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        input_size: side in pixels of what the network sees; None for what the JSON says, and needed without one.

    Returns:
        The model, in ``eval`` mode on the device.

    Raises:
        SegError: no such model, a file that is broken or no segmenter, or a device that is not there.
    """
    from seg.backbones import read_state_dict
    from seg.runtime import Runtime

    try:
        runtime = Runtime(accelerator=device)  # type: ignore[arg-type]
        runtime.check()
    except SegError as error:
        raise SegError(str(error).replace("runtime.accelerator", "device")) from error
    file = find_model(Path(path))
    state = read_state_dict(file, key="model")
    info = _info(file)
    model = _network(file, info, state)
    fit_into(model, state, file, "model")
    given = input_size or info.get("input_size")
    if not given:
        raise SegError(f"model={file}: no {file.stem}.json beside it says at which size it works; add input_size=224")
    size = int(given)
    from seg.data.augment import MEAN, STD

    return Model(
        network=model.to(runtime.device).eval(),
        device=runtime.device,
        working_size=int(info.get("working_size") or size),
        input_size=size,
        mean=tuple(info.get("mean") or MEAN),
        std=tuple(info.get("std") or STD),
        info=info,
        path=file,
        sha256=file_sha256(file),
    )


def _info(file: Path) -> dict[str, Any]:
    path = file.with_suffix(".json")
    info = beside(file)
    if not info and path.exists():
        raise SegError(f"{path}: does not describe a model; mend it, or move it away")
    return info


def _network(file: Path, info: Mapping[str, Any], state: "Mapping[str, torch.Tensor]") -> "nn.Module":
    """A network with random weights of the architecture that the JSON names or the weights show."""
    from seg.recognise import recognise

    described: Any = info.get("architecture")
    role = info.get("role")
    if described is None:
        fits = recognise(state)
        role, described = (fits.role, fits.network) if fits else (None, None)
        if fits is not None and fits.role == "segmenter" and fits.classes is not None:
            raise SegError(f"model={file}: {fits.classes} outputs, but a segmenter of foreground has one")
    if role != "segmenter" or not isinstance(described, Mapping) or "_target_" not in described:
        raise SegError(f"model={file}: {f'it is of a {role}' if role else 'not known as a network'}, not a segmenter")
    params = {k: v for k, v in described.items() if k != "_target_"}
    cls = _network_class(str(described["_target_"]), file)
    try:
        net = cls(**params)
    except (SegError, TypeError) as error:
        raise SegError(f"{file.with_suffix('.json')}: architecture: {error}") from error
    model: nn.Module = net.load(Path(), Store(Path()))
    return model


def _network_class(target: str, file: Path) -> "type[Network]":
    """A JSON from elsewhere may name a network and nothing else, for what it names is called."""
    import importlib

    from seg.segmenter.networks import Network

    place, _, name = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SegError(f"model={file}: its network {target} is not to be had here ({error})") from error
    if not (isinstance(cls, type) and issubclass(cls, Network)):
        raise SegError(f"{file.with_suffix('.json')}: architecture._target_={target}: not a segmentation network")
    return cls

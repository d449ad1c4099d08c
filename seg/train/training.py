"""Networks as stages: trained or pretrained.

A training is a folder with the weights of every epoch (``epoch_001.safetensors``), ``history.csv``, and the optimizer's
state after the last two epochs (``state_001.pt``). A later epoch continues it. With a schedule that depends on the
number of epochs, that number is part of the key.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from seg.errors import SegError
from seg.files import atomic_path, file_sha256
from seg.nets.checkpoints import description, find_checkpoint, load_state, read_state_dict
from seg.store import Products, Runtime, Stage, param
from seg.store.manifest import read_manifest
from seg.store.parameters import MOST_SEED

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor, nn

Precision = Literal["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"]
T = TypeVar("T", bound="Training")


class NetworkStage(Stage):
    """Base of stages whose product is a network, in ``eval`` mode on the device of inference.

    Attributes:
        role: name of the network in ``checkpoints.*`` and in the run's folder.
    """

    role: ClassVar[str] = ""

    if TYPE_CHECKING:  # at run time these would conflict with fields of the same names

        @property
        def design(self) -> "Training":
            """The training that defines the network and its use, even if the weights are from elsewhere."""

        @property
        def file_name(self) -> str:
            """Name of the weights within the product's folder."""

    def designed_as(self, kind: type[T], where: str) -> T:
        """The design if it is of this kind, else a SegError that begins with ``where``."""
        if not isinstance(self.design, kind):
            raise SegError(f"{where}: is a {type(self.design).__name__}, not a {kind.role}")
        return self.design

    def load(self, path: Path, store: Products) -> "nn.Module":
        """The network with its weights."""
        from safetensors.torch import load_file

        model = self.design.empty(store)
        model.load_state_dict(load_file(path / self.file_name))
        return model.to(store.runtime.device).eval()


class Training(NetworkStage):
    """Base of stages that train a network.

    Attributes:
        epochs: length of the schedule.
        epoch: the epoch whose weights are the product; null for the last.
        batch_size: images per optimizer step; at least 2, for batch norm.
        optimizer: ``adam``; or ``sgd`` with a momentum of 0.9.
        lr: initial learning rate, without warm-up.
        weight_decay: L2 penalty.
        schedule: ``constant``; ``poly`` (factor ``(1 - step/total)**0.9``); ``cosine``.
        flip: mirror each image with probability 1/2.
        zoom: smallest side of random crops, as a share of the image; they are resized to the full size.
        jitter: brightness, contrast and colour of an image vary by up to this factor.
        seed: of random weights, the order of images and their augmentation.
        precision: as in Lightning Fabric (``32-true``, ``bf16-mixed``); part of the key because it changes numbers.
        ema: decay per step of a moving average of weights and batch-norm statistics, which is then the product
            (Tarvainen and Valpola, NIPS 2017); null for none.
        keep: ``all`` keeps the weights of every epoch, ``last`` those of the last two.
    """

    in_place: ClassVar[bool] = True

    epochs: int = param(default=20, low=1, key=False)
    epoch: int | None = param(default=None, low=1, key=False)
    batch_size: int = param(default=32, low=2)
    optimizer: Literal["adam", "sgd"] = param(default="adam")
    lr: float = param(default=1e-4, above=0)
    weight_decay: float = param(default=0.0, low=0)
    schedule: Literal["constant", "poly", "cosine"] = param(default="constant")
    flip: bool = param(default=True)
    zoom: float = param(default=1.0, above=0, high=1)
    jitter: float = param(default=0.0, low=0, below=1)
    seed: int = param(default=0, low=0, high=MOST_SEED)
    precision: Precision = param(default="32-true")
    ema: float | None = param(default=None, low=0, below=1)
    keep: Literal["all", "last"] = param(default="all", key=False)

    @classmethod
    def from_config(cls, checkpoint: str | None = None, **values: Any) -> NetworkStage:
        """The training; or with a ``checkpoint`` its :class:`Pretrained` network."""
        design = cls(**values)
        return design if checkpoint is None else Pretrained(design=design, file=checkpoint)

    def validate(self) -> None:
        if self.schedule != "constant" and self.wanted > self.epochs:
            raise SegError(
                f"epoch={self.epoch}: the {self.schedule} schedule of {type(self).__name__} ends at "
                f"epochs={self.epochs}; ask for an earlier epoch or raise epochs"
            )

    @property
    def design(self) -> "Training":
        return self

    @property
    def wanted(self) -> int:
        """The epoch of the product, from 1."""
        return self.epoch if self.epoch is not None else self.epochs

    @property
    def unused_parameters(self) -> dict[str, str]:
        """Parameters without effect, each with the reason."""
        if self.schedule != "constant" or self.epoch is None:
            return {}
        return {"epochs": f"is used only with a schedule; this one is constant, and epoch={self.epoch} is trained"}

    @property
    def id(self) -> str:
        """``Stage/key@epoch``, because a training has a product for each epoch."""
        return f"{super().id}@{self.wanted}"

    @property
    def file_name(self) -> str:
        return f"epoch_{self.wanted:03d}.safetensors"

    def params(self) -> dict[str, Any]:
        out = super().params()
        if self.schedule != "constant":
            out["epochs"] = self.epochs
        if self.keep == "last":
            out["epoch"] = self.wanted
        return out

    def files_to_load(self, manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
        return [entry for entry in manifest.get("files", []) if entry["name"] == self.file_name] or None

    def check_runtime(self, runtime: Runtime) -> None:
        """Raise a SegError if these devices cannot train it."""
        if self.precision == "16-true" and runtime.device.type == "cpu":
            raise SegError(f"precision={self.precision}: a CPU does not train in it; take bf16-mixed or 32-true")
        if self.batch_size < 2 * runtime.processes:
            raise SegError(
                f"{type(self).__name__}.batch_size={self.batch_size}: leaves {runtime.processes} processes less than "
                f"two images each; take at least {2 * runtime.processes}, or fewer devices"
            )

    # -- defined by subclasses -------------------------------------------------------------------------

    def shape(self) -> dict[str, Any]:
        """Parameters of the network and its use, which a checkpoint needs too."""
        return {}

    def needs(self) -> dict[str, Stage]:
        """Stages that a checkpoint needs too, by field name."""
        return {}

    def class_names(self, store: Products) -> Sequence[str] | None:
        """The class of each output, which must agree with a checkpoint's; None if outputs are no classes."""
        return None

    def empty(self, store: Products) -> "nn.Module":
        """The network for loading a checkpoint, on the CPU, without reading pretrained weights."""
        return self.network(store)

    def network(self, store: Products) -> "nn.Module":
        """The network with its initial weights, on the CPU."""
        raise TypeError(f"{type(self).__name__} has no network()")

    def samples(self, store: Products) -> Any:
        """Array of the samples of an epoch, which is shuffled and passed to :meth:`batch` in parts."""
        raise TypeError(f"{type(self).__name__} has no samples()")

    def batch(self, rows: Any, generator: "torch.Generator", store: Products) -> "tuple[Tensor, ...]":
        """The tensors of a batch of samples, augmented."""
        raise TypeError(f"{type(self).__name__} has no batch()")

    def loss(self, model: "nn.Module", batch: "tuple[Tensor, ...]") -> "tuple[Tensor, dict[str, Tensor]]":
        """The loss to minimise and further means to log, all scalars."""
        raise TypeError(f"{type(self).__name__} has no loss()")

    def augmented(
        self, images: "np.ndarray", masks: "np.ndarray | None", generator: "torch.Generator"
    ) -> "tuple[Tensor, Any]":
        """Images and masks, augmented by ``flip``, ``zoom`` and ``jitter``."""
        import torch

        from seg.nets.augment import augment, normalise

        given = None if masks is None else torch.from_numpy(masks)
        return augment(normalise(images), given, generator, flip=self.flip, zoom=self.zoom, jitter=self.jitter)

    def groups(self, model: "nn.Module") -> list[dict[str, Any]]:
        """Parameter groups for the optimizer; the schedule applies to the ``lr`` of each."""
        return [{"params": [p for p in model.parameters() if p.requires_grad], "lr": self.lr}]

    def frozen(self, model: "nn.Module") -> "Sequence[nn.Module]":
        """Modules that are not trained and stay in ``eval`` mode."""
        return ()

    def after_epoch(self, model: "nn.Module", store: Products) -> None:
        """Change the product before it is validated and saved."""

    def held_out(self, model: "nn.Module", store: Products) -> dict[str, float]:
        """Validation metrics at the end of an epoch."""
        return {}

    def doubt(self, store: Products) -> str:
        """A line about a trained network that is not to be trusted; else empty."""
        return ""

    # -- the product -----------------------------------------------------------------------------------

    def build(self, out: Path, store: Products) -> None:
        from seg.train.loop import Loop

        Loop(self, out, store).run()

    def history(self, store: Products) -> "pd.DataFrame":
        """Loss and metrics by epoch, up to the epoch of the product."""
        import pandas as pd

        manifest = read_manifest(store.folder(self)) or {}
        frame = pd.DataFrame(manifest.get("history") or {"epoch": [], "loss": []})
        return frame[frame["epoch"] <= self.wanted]


class Pretrained(NetworkStage):
    """A network from a checkpoint, without training.

    Attributes:
        design: the training that defines the network.
        file: a state dict, or a run's folder.
    """

    what: ClassVar[str] = "pretrained weights"
    file_name: ClassVar[str] = "weights.safetensors"

    design: Training
    file: str

    @property
    def role(self) -> str:  # type: ignore[override]
        return self.design.role

    @property
    def unused_parameters(self) -> dict[str, str]:
        used = {*self.design.shape(), *self.design.needs(), "epoch", "epochs"}  # as in the command that trained it
        why = f"is not used, because the {self.role} is given by checkpoints.{self.role}"
        return {f.name: why for f in dataclasses.fields(self.design) if f.name not in used}

    @property
    def path(self) -> Path:
        return find_checkpoint(Path(self.file), self.role)

    def params(self) -> dict[str, Any]:
        """The content of the file, and the network and its use; not the parameters of training."""
        weights = f"sha256:{file_sha256(self.path)}"
        return {"weights": weights, "design": type(self.design).__name__, **self.design.shape()}

    def upstream(self) -> dict[str, Stage]:
        return self.design.needs()

    @cached_property
    def is_oracle(self) -> bool:
        return bool(description(self.path).get("oracle"))

    @cached_property
    def trained_on_masks(self) -> bool:
        return bool(description(self.path).get("trained_on_masks"))

    def check(self, store: Products) -> None:
        self.read(store)

    def read(self, store: Products) -> "nn.Module":
        """The network with the weights, on the CPU.

        Raises:
            SegError: the weights are of another network or for other classes.
        """
        path, file = self.path, f"checkpoints.{self.role}={self.path}"
        state = read_state_dict(path, key=f"checkpoints.{self.role}")
        model = self.design.empty(store)
        theirs, own = description(path).get("classes"), self.design.class_names(store)
        if theirs is not None and own is not None and theirs != list(own):
            raise SegError(
                f"{file}: its classes are {repr(theirs)[:200]}, but those of the data are {repr(list(own))[:200]}; "
                "give a network of these classes in this order, or correct the JSON file beside it"
            )
        shape = " ".join(f"{k}={v}" for k, v in self.design.shape().items())
        load_state(model, state, f"{file}: does not fit the {self.role} of this config ({shape})")
        return model

    def build(self, out: Path, store: Products) -> None:
        from safetensors.torch import save

        weights = {k: v.contiguous() for k, v in self.read(store).state_dict().items()}
        with atomic_path(out / self.file_name) as tmp:
            tmp.write_bytes(save(weights))

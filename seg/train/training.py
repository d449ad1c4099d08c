"""Networks as stages: trained here, or given.

With a constant learning rate the network at epoch 12 is a prefix of the one at epoch 20, so a training is
one growing folder: ``epoch_001.safetensors`` and so on, ``history.csv``, and the optimizer's state after the newest two
epochs, ``state_001.pt``. Asking for a later epoch trains only what is missing. A schedule that depends on the total
number of epochs makes that number part of the identity.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from seg.errors import SegError
from seg.files import atomic_path, file_sha256
from seg.nets.given import description, find_checkpoint, fit_into
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
    """Base of the stages whose product is a network, in ``eval`` mode on the device of inference.

    Attributes:
        role: what ``checkpoints.*`` and the run's folder call the network.
        design: the training that describes the network and its use, whether or not it was trained by it.
    """

    role: ClassVar[str] = ""

    if TYPE_CHECKING:  # a property that is there would be in the way of a field of that name

        @property
        def design(self) -> "Training":
            """The training that describes the network and its use, whether or not it was trained by it."""

    def designed_as(self, kind: type[T], where: str) -> T:
        """Its design, refused with a SegError that begins with ``where`` unless it is of this kind."""
        if not isinstance(self.design, kind):
            raise SegError(f"{where}: is a {type(self.design).__name__}, not a {kind.role}")
        return self.design

    @property
    def file_name(self) -> str:
        """Name of the weights within the product's folder."""
        raise TypeError(f"{type(self).__name__} has no file_name")

    def load(self, path: Path, store: Products) -> "nn.Module":
        """The network with its weights."""
        from safetensors.torch import load_file

        model = self.design.empty(store)  # a sweep loads one per epoch: not by way of the weights that it started from
        model.load_state_dict(load_file(path / self.file_name))
        return model.to(store.runtime.device).eval()


class Training(NetworkStage):
    """Base of the stages that train a network with Adam.

    Attributes:
        epochs: length of the training as the schedule sees it.
        epoch: the epoch whose weights are wanted; null for the last.
        batch_size: images per optimizer step; batch norm can't use a single one.
        lr: Adam's learning rate (after warm-up none; see ``schedule``).
        weight_decay: Adam's L2 penalty.
        schedule: ``constant``; ``poly`` (factor ``(1 - step/total)**0.9``); ``cosine``.
        flip: mirror half of the images.
        zoom: random crops down to this share of the side are stretched to the full size.
        jitter: brightness, contrast and colour of an image vary by up to this factor.
        seed: of the weights that are drawn, the order of the images and their augmentation.
        precision: as Lightning Fabric names it (``32-true``, ``bf16-mixed``); it changes numbers, so it is
            part of the key.
        averaged: the product is the moving average of the weights of all steps (a mean teacher: Tarvainen and Valpola,
            NIPS 2017). decay: of the average, per step.
        keep: ``all`` keeps every epoch's weights, ``last`` the newest and those before, to go back to if it is damaged.
    """

    in_place: ClassVar[bool] = True

    epochs: int = param(default=20, low=1, key=False)
    epoch: int | None = param(default=None, low=1, key=False)
    batch_size: int = param(default=32, low=2)
    lr: float = param(default=1e-4, above=0)
    weight_decay: float = param(default=0.0, low=0)
    schedule: Literal["constant", "poly", "cosine"] = param(default="constant")
    flip: bool = param(default=True)
    zoom: float = param(default=1.0, above=0, high=1)
    jitter: float = param(default=0.0, low=0, below=1)
    seed: int = param(default=0, low=0, high=MOST_SEED)
    precision: Precision = param(default="32-true")
    averaged: bool = param(default=False)
    decay: float = param(default=0.99, low=0, below=1)
    keep: Literal["all", "last"] = param(default="all", key=False)

    @classmethod
    def from_config(cls, checkpoint: str | None = None, **values: Any) -> NetworkStage:
        """What a config node with this class describes: the training, or what takes its place.

        Args:
            checkpoint: a state dict, a folder of one per epoch (``...epoch7.pth``), or a run's folder, to use instead
                of training; what the training would have needed is then not needed. values: the parameters.
        """
        design = cls(**values)
        return design if checkpoint is None else Given(design=design, file=checkpoint)

    def validate(self) -> None:
        """An epoch beyond the total is only meaningful for a training that can go on."""
        if self.schedule != "constant" and self.wanted > self.epochs:
            raise SegError(
                f"epoch={self.epoch}: the {self.schedule} schedule of {type(self).__name__} ends at "
                f"epochs={self.epochs}; ask for an earlier epoch or raise epochs"
            )

    @property
    def design(self) -> "Training":
        """Itself."""
        return self

    @property
    def wanted(self) -> int:
        """The epoch whose weights are wanted, from 1."""
        return self.epoch if self.epoch is not None else self.epochs

    @property
    def id(self) -> str:
        """One stream of training has many products, one per epoch: ``Stage/key@epoch``."""
        return f"{super().id}@{self.wanted}"

    @property
    def file_name(self) -> str:
        """That of the wanted epoch."""
        return f"epoch_{self.wanted:03d}.safetensors"

    def params(self) -> dict[str, Any]:
        """The length enters the key where it changes the weights, or which of them are kept; a decay where one is."""
        out = super().params()
        if self.teacher_decay is None:
            del out["decay"]
        if self.schedule != "constant":
            out["epochs"] = self.epochs
        if self.keep == "last":
            out["epoch"] = self.wanted
        return out

    def opened(self, manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
        """The wanted epoch's weights, if the manifest tells of them."""
        return [entry for entry in manifest.get("files", []) if entry["name"] == self.file_name] or None

    def check_runtime(self, runtime: Runtime) -> None:
        """Refuse what cannot be trained on these devices; known from the config alone.

        Raises:
            SegError: naming the parameter.
        """
        if self.precision == "16-true" and runtime.device.type == "cpu":
            raise SegError(f"precision={self.precision}: a CPU does not train in it; take bf16-mixed or 32-true")
        if self.batch_size < 2 * runtime.processes:
            raise SegError(
                f"{type(self).__name__}.batch_size={self.batch_size}: leaves {runtime.processes} processes less than "
                f"two images each; take at least {2 * runtime.processes}, or fewer devices"
            )

    # -- what a subclass says --------------------------------------------------------------------------

    def shape(self) -> dict[str, Any]:
        """The parameters that given weights need: those of the network and of its use."""
        return {}

    def needs(self) -> dict[str, Stage]:
        """The stages that given weights need, by field name."""
        return {}

    def check_given(self, model: "nn.Module", state: "Mapping[str, Tensor]", said: str) -> None:
        """Refuse given weights for what their architecture does not tell.

        Args:
            model: of this design. state: the weights. said: how they were given, for the message.
        """

    def check_described(self, told: "Mapping[str, Any]", said: str, store: Products) -> None:
        """Refuse given weights for what is written of them.

        Args:
            told: of :func:`seg.nets.given.description`, unchecked. said: how they were given, for the message.
        """

    def empty(self, store: Products) -> "nn.Module":
        """A network for weights that come from elsewhere, on the CPU; nothing need be read or fetched for it."""
        return self.network(store)

    def network(self, store: Products) -> "nn.Module":
        """A fresh network with its initial weights, on the CPU."""
        raise TypeError(f"{type(self).__name__} has no network()")

    def samples(self, store: Products) -> Any:
        """An array of the prepared rows to train on."""
        raise TypeError(f"{type(self).__name__} has no samples()")

    def batch(self, rows: Any, generator: "torch.Generator", store: Products) -> "tuple[Tensor, ...]":
        """Tensors of a batch, augmented, the images first: ``float32 (B, 3, H, W)``."""
        raise TypeError(f"{type(self).__name__} has no batch()")

    def loss(self, model: "nn.Module", batch: "tuple[Tensor, ...]") -> "tuple[Tensor, dict[str, Tensor]]":
        """The loss to minimise and further means to log, all scalars."""
        raise TypeError(f"{type(self).__name__} has no loss()")

    @property
    def teacher_decay(self) -> float | None:
        """Decay, below 1, of a moving average of the weights that follows the network as its teacher; None for none."""
        return self.decay if self.averaged else None

    def taught(self, teacher: "nn.Module", batch: "tuple[Tensor, ...]", epoch: int) -> "tuple[Tensor, ...]":
        """The batch as the teacher would have it, for :meth:`loss`.

        Args:
            teacher: in ``eval`` mode, called without gradients. batch: on its device. epoch: from 1.
        """
        return batch

    def augmented(
        self, images: "np.ndarray", masks: "np.ndarray | None", generator: "torch.Generator"
    ) -> "tuple[Tensor, Any]":
        """A batch's images and masks for :func:`seg.nets.augment.augment`, varied as the parameters say."""
        import torch

        from seg.nets.augment import augment, normalise

        given = None if masks is None else torch.from_numpy(masks)
        return augment(normalise(images), given, generator, flip=self.flip, zoom=self.zoom, jitter=self.jitter)

    def groups(self, model: "nn.Module") -> list[dict[str, Any]]:
        """Parameter groups for Adam; ``lr`` in a group is multiplied by the schedule too."""
        return [{"params": [p for p in model.parameters() if p.requires_grad], "lr": self.lr}]

    def frozen(self, model: "nn.Module") -> "Sequence[nn.Module]":
        """Parts of the network that are not trained: they keep their weights and stay in ``eval`` mode."""
        return ()

    def after_epoch(self, model: "nn.Module", store: Products) -> None:
        """What is done to the weights or statistics of the product before an epoch is measured and saved."""

    def held_out(self, model: "nn.Module", store: Products) -> dict[str, float]:
        """Metrics on images that are not trained on, at the end of an epoch."""
        return {}

    # -- the product -----------------------------------------------------------------------------------

    def build(self, out: Path, store: Products) -> None:
        """Train up to the wanted epoch, from wherever the folder stands."""
        from seg.train.loop import Loop

        Loop(self, out, store).run()

    def history(self, store: Products) -> "pd.DataFrame":
        """Loss and metrics by epoch, up to the wanted one."""
        import pandas as pd

        folder = store.folder(self)
        manifest = read_manifest(folder) or {}
        frame = pd.DataFrame(manifest.get("history") or {"epoch": [], "loss": []})
        return frame[frame["epoch"] <= self.wanted]


class Given(NetworkStage):
    """A network that is given: it is used as it is, and nothing is trained.

    Its key is the content of the file and what decides how the network is used.

    Attributes:
        design: what it would have been trained by.
        file: a state dict, a folder of one per epoch, or a run's folder.
    """

    what: ClassVar[str] = "given weights"

    design: Training
    file: str

    @property
    def role(self) -> str:  # type: ignore[override]
        """That of its design."""
        return self.design.role

    @property
    def file_name(self) -> str:
        """One file, without an epoch."""
        return "weights.safetensors"

    @property
    def path(self) -> Path:
        """The file of weights that ``file`` means."""
        return find_checkpoint(Path(self.file), self.role, self.design.wanted)

    def params(self) -> dict[str, Any]:
        """How one would have trained plays no part."""
        weights = f"sha256:{file_sha256(self.path)}"
        return {"weights": weights, "design": type(self.design).__name__, **self.design.shape()}

    def upstream(self) -> dict[str, Stage]:
        """What its use needs; a training needs more."""
        return self.design.needs()

    @cached_property
    def is_oracle(self) -> bool:
        """What is written of the weights."""
        return bool(description(self.path).get("oracle"))

    def check(self, store: Products) -> None:
        """Load the weights once, before anything long."""
        self.read(store)

    def read(self, store: Products) -> "nn.Module":
        """The network with the weights, on the CPU.

        Raises:
            SegError: for a file that is missing, broken or of another network, naming what would fit.
        """
        from seg.nets.state_dicts import read_state_dict

        path, key = self.path, f"checkpoints.{self.role}"
        state = read_state_dict(path, key=key)
        model = self.design.empty(store)
        self.design.check_given(model, state, f"{key}={path}")
        self.design.check_described(description(path), f"{key}={path}", store)
        fit_into(model, state, path, key)
        return model

    def build(self, out: Path, store: Products) -> None:
        """A copy of the weights."""
        from safetensors.torch import save

        weights = {k: v.contiguous() for k, v in self.read(store).state_dict().items()}
        with atomic_path(out / self.file_name) as tmp:
            tmp.write_bytes(save(weights))

"""What the cases share: sizes, a scratch folder, small data sets, a trained classifier without a training."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg.errors import SegError

if TYPE_CHECKING:
    from seg.store import Store
    from seg.supervision.classifier import Classifier


@dataclass(frozen=True)
class Sizes:
    """How much of everything. The defaults are the whole bench's.

    Attributes:
        side: of the images in pixels. batch: of CAM and forward passes. batches: of them in a measurement.
        repeats: measurements of what takes seconds. quick_repeats: of what takes far less.
        grids: sides of the random walk's grids. dense_up_to: the largest one that the dense matrix is made for.
        memory_grids: sides at which the walk's memory is measured.
        sweep_images, sweep_epochs, script_images: of the sweep; the last is the part done the scripts' way.
        prepare_images, train_images: pictures decoded, and trained on.
        epochs: trained in the training case, after one that warms up.
        toy_images: of the toy runs that are started as commands.
        memory_images: the smaller of the two sets whose peaks are compared.
    """

    side: int = 224
    batch: int = 64
    batches: int = 2
    repeats: int = 5
    quick_repeats: int = 9
    grids: tuple[int, ...] = (28, 56, 112)
    dense_up_to: int = 56
    memory_grids: tuple[int, ...] = (112, 160)
    sweep_images: int = 500
    sweep_epochs: int = 20
    script_images: int = 24
    prepare_images: int = 500
    train_images: int = 200
    epochs: int = 2
    toy_images: int = 480
    memory_images: int = 160


#: For ``--quick``: all cases in under 3 minutes on 2 cores.
QUICK = Sizes(
    batch=32,
    batches=1,
    repeats=3,
    quick_repeats=5,
    sweep_images=64,
    sweep_epochs=2,
    script_images=6,
    prepare_images=100,
    train_images=32,
    epochs=1,
    toy_images=40,
    memory_images=32,
)


@dataclass
class Lab:
    """Where the cases work.

    Attributes:
        scratch: an empty folder for everything that is made, deleted at the end.
        sizes: how much.
        data: a folder with the real data in the official layout; where there is none, pictures are drawn.
        weights: a ResNet-18 state dict, or None for random weights (speeds don't depend on them).
        say: prints a line of progress.
    """

    scratch: Path
    sizes: Sizes = field(default_factory=Sizes)
    data: Path | None = None
    weights: Path | None = None
    say: Callable[[str], None] = print

    @property
    def has_photos(self) -> bool:
        """Whether the real data are there."""
        from seg.data.pets import OxfordPet

        return self.data is not None and not OxfordPet(root=str(self.data)).missing_parts()

    def data_note(self) -> str:
        """Which pictures were used."""
        return "real photos" if self.has_photos else f"TOY pictures (no photos in {self.data})"

    def overrides(self, images: int) -> list[str]:
        """Hydra overrides for a run on so many pictures: photos that have ground truth, or drawn ones."""
        weights = "null" if self.weights is None else f"'{self.weights.resolve()}'"
        common = [f"weights={weights}", f"store='{self.scratch / 'store'}'", "runtime.progress=false"]
        common.append(f"data.size={self.sizes.side}")
        common.append("classifier.frozen_stages=0")  # else 2 with weights; a case overrides it
        if self.has_photos:
            return ["data=oxford_pet", f"data.root='{self.photos(images)}'", *common]
        size = max(48, min(self.sizes.side, 160))
        # Fewer would leave a class without an image to train on.
        drawn = [f"data.prepared.source.images={max(24, images)}", f"data.prepared.source.size={size}"]
        # The whole ResNet-18, as for photos.
        return ["data=toy_pets", *drawn, "classifier.stages=4", "classifier.output_stride=32", *common]

    def photos(self, images: int) -> Path:
        """The official layout of so many of the real photos that have ground truth, half of each split, by links."""
        from seg.data.layout import IMAGE_SUFFIXES
        from seg.data.pets import OxfordPet

        root = self.scratch / f"photos_{images}"
        if root.exists():
            return root
        assert self.data is not None
        source, target = OxfordPet(root=str(self.data)).folder.resolve(), root / "oxford-iiit-pet"
        for name in ("images", "annotations/trimaps", "annotations/xmls"):
            (target / name).mkdir(parents=True)
        for split in ("trainval", "test"):
            lines = (source / "annotations" / f"{split}.txt").read_text().splitlines()
            trimaps = source / "annotations" / "trimaps"
            usable = [x for x in lines if x.split() and (trimaps / f"{x.split()[0]}.png").is_file()]
            count = min(len(usable), images // 2)
            if count == 0:
                raise SegError(f"{source}: no image of {split} has a trimap; leave --data out to use drawn pictures")
            chosen = [usable[i * len(usable) // count] for i in range(count)]
            (target / "annotations" / f"{split}.txt").write_text("\n".join(chosen) + "\n")
            for stem in (line.split()[0] for line in chosen):
                files = [source / "images" / f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES]
                files.append(source / "annotations/trimaps" / f"{stem}.png")
                for file in files:
                    if file.is_file():
                        (target / file.relative_to(source)).symlink_to(file)
        return root

    def config(self, images: int, *more: str) -> Any:
        """The composed config of a run on so many pictures, with a classifier of one epoch unless ``more`` says so."""
        from hydra import compose, initialize_config_dir

        from seg.config import schema
        from seg.config.paths import CONF

        schema.register()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", [*self.overrides(images), "epoch=1", *more])

    def store(self) -> "Store":
        """The store of the scratch folder."""
        from seg.store import Runtime, Store

        return Store(self.scratch / "store", Runtime(accelerator="cpu", progress=False, batch_size=self.sizes.batch))

    def empty(self, name: str) -> Path:
        """A new empty folder in scratch."""
        number = sum(1 for _ in self.scratch.glob(f"{name}_*"))
        folder = self.scratch / f"{name}_{number}"
        folder.mkdir(parents=True)
        return folder

    def environment(self) -> dict[str, str]:
        """For Python in a process of its own: this very bench and ``seg``, wherever it is started."""
        import seg

        paths = [str(Path(__file__).parents[1]), str(Path(seg.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}

    def call(self, *arguments: str) -> str:
        """Run ``python -m`` with these arguments in the scratch folder; its output.

        Raises:
            SegError: it failed; with the end of what it said.
        """
        import subprocess

        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=self.scratch, env=self.environment(), capture_output=True, text=True)
        if done.returncode:
            said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise SegError(f"python -m {arguments[0]} ended with {done.returncode}: {said}")
        return done.stdout


def plant(stage: "Classifier", store: "Store", epochs: int) -> None:
    """Put networks with weights of every epoch into the store as if ``stage`` had been trained.

    Only the last layer differs from epoch to epoch. A forward pass costs the same with any weights.
    """
    import torch
    from safetensors.torch import save_file

    store.ensure(stage.data)
    folder = store.folder(stage)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = stage.network(store)
    linear: Any = next(m for m in reversed(list(model.modules())) if isinstance(m, torch.nn.Linear))
    for epoch in range(1, epochs + 1):
        torch.nn.init.normal_(linear.weight, std=0.05)
        save_file(model.state_dict(), folder / f"epoch_{epoch:03d}.safetensors")
    store.write_manifest(stage, folder, 0.0, {"epochs_done": epochs})

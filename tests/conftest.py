"""One tiny drawn data set, prepared once per session, and a classifier trained on it for two epochs."""

import os

# Before anything imports PyTorch: these tests are many small operators, which threads only slow down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seg.data.dataset import Task
from seg.data.prepared import Pool, Prepared, PreparedData
from seg.data.toys import ToyPets
from seg.masks import Threshold
from seg.models.save import save_models
from seg.nets.augment import normalise
from seg.nets.backbones import make_classifier
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.store import Runtime, Store
from seg.supervision.classifier import Classifier
from seg.supervision.mask import TargetScores

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    return Runtime(accelerator="cpu", workers=1, progress=False, batch_size=16)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Store:
    """A store shared by the session: tests add to it and take nothing away."""
    return Store(tmp_path_factory.mktemp("store"), runtime)


@pytest.fixture
def new_store(tmp_path: Path, runtime: Runtime) -> Store:
    """An empty store of the test's own."""
    return Store(tmp_path / "store", runtime)


@pytest.fixture(scope="session")
def prepared() -> Prepared:
    return Prepared(source=ToyPets(images=32, breeds=2, size=48), size=64)


@pytest.fixture(scope="session")
def data(store: Store, prepared: Prepared) -> PreparedData:
    made: PreparedData = store.get(prepared)
    return made


@pytest.fixture(scope="session")
def pool(prepared: Prepared) -> Pool:
    return Pool(data=prepared)


@pytest.fixture
def classes(data: PreparedData) -> PreparedData:
    """The same pictures with masks that tell three classes apart: of both of the first, of none of the second."""
    label_sets = [(0, 1), (), *((row % 3,) for row in range(2, len(data)))]
    target = np.random.default_rng(0).integers(0, 4, (len(data), data.side, data.side)).astype(np.uint8)
    target[:, :2], target[1] = 255, 0
    return dataclasses.replace(
        data, classes=("a", "b", "c"), label_sets=label_sets, target_is_classes=True, _target=target
    )


@pytest.fixture(scope="session")
def classifier(prepared: Prepared) -> Classifier:
    return Classifier(data=prepared, epochs=2, batch_size=8, stages=3, output_stride=16)


@pytest.fixture(scope="session")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of random ResNet-18 weights."""
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(make_classifier("resnet18", 37, None).state_dict(), file)
    return str(file)


@pytest.fixture(scope="session")
def random_run(
    store: Store, prepared: Prepared, data: PreparedData, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Task], tuple[Path, Threshold]]:
    """Make a run's folder with a segmenter of a task, and its masks: random, and so of every class."""

    def make(task: Task) -> tuple[Path, Threshold]:
        folder = tmp_path_factory.mktemp(task)
        pool, net = Pool(data=prepared, task=task), PlainUNet(width=4, depth=2)
        torch.manual_seed(0)
        network: Any = net.make(1 + len(data.classes) if task == "classes" else 1).eval()
        with torch.no_grad():  # none is ahead of the others everywhere
            network.head.weight.mul_(20)
            network.head.bias -= network(normalise(np.array(data.images[:8]))).mean((0, 2, 3))
        torch.save(network.state_dict(), folder / "random.pth")
        target = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
        given = Segmenter.from_config(checkpoint=str(folder / "random.pth"), masks=target, net=net, input_size=32)
        masks = Threshold(scores=Predicted(pool=pool, segmenter=given), threshold=0.5)
        store.ensure(masks)
        save_models(folder / "models", {"prediction": masks}, [], prepared, store)
        return folder, masks

    return make


@pytest.fixture(scope="session")
def run_of_classes(random_run: Callable[[Task], tuple[Path, Threshold]]) -> tuple[Path, Threshold]:
    return random_run("classes")


@pytest.fixture
def official(tmp_path: Path) -> Callable[..., Path]:
    """Write a small folder in the official layout: two classes, images of other sizes than square."""

    def write(name: str = "pets", trainval: int = 6, test: int = 2, without_target: tuple[str, ...] = ()) -> Path:
        root = tmp_path / name
        folder = root / "oxford-iiit-pet"
        for part in ("images", "annotations/trimaps", "annotations/xmls"):
            (folder / part).mkdir(parents=True)
        rng = np.random.default_rng(0)
        lists: dict[str, list[str]] = {"trainval": [], "test": []}
        for label, breed in enumerate(("Abyssinian", "beagle"), 1):
            for number in range(1, trainval // 2 + test // 2 + 1):
                stem = f"{breed}_{number}"
                split = "trainval" if number <= trainval // 2 else "test"
                lists[split].append(f"{stem} {label} {label} 1")
                height, width = 40 + number, 60 + label
                pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / f"{stem}.jpg")
                trimap = np.full((height, width), 2, np.uint8)
                trimap[8:31, 10:41] = 3
                trimap[10:29, 12:39] = 1
                if stem not in without_target:
                    Image.fromarray(trimap).save(folder / "annotations/trimaps" / f"{stem}.png")
                if split == "trainval":
                    (folder / "annotations/xmls" / f"{stem}.xml").write_text(
                        f"<annotation><filename>{stem}.jpg</filename><size><width>{width}</width>"
                        f"<height>{height}</height><depth>3</depth></size><object><name>pet</name><bndbox>"
                        "<xmin>13</xmin><ymin>11</ymin><xmax>25</xmax><ymax>20</ymax></bndbox></object>"
                        "</annotation>"
                    )
        for split, lines in lists.items():
            (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
        return root

    return write


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """Write a small folder of photos with a folder per class: a bright square on noise, 60 x 40 pixels."""

    def write(
        name: str = "photos", classes: tuple[str, ...] = ("cat", "dog"), images: int = 5, suffix: str = ".png"
    ) -> Path:
        root = tmp_path / name
        rng = np.random.default_rng(0)
        for label, own in enumerate(classes):
            (root / own).mkdir(parents=True)
            for number in range(1, images + 1):
                pixels = rng.integers(0, 120, (40, 60, 3), dtype=np.uint8)
                pixels[10:30, 20:45, label % 3] = 255
                Image.fromarray(pixels).save(root / own / f"{own}{number}{suffix}")
        return root

    return write


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., Path]:
    """Write a small folder in COCO's layout: categories 1, 3 and 7, photos of 60 x 40 pixels, each with an object."""

    def write(name: str = "coco", count: int = 6, part: str = "val2017", **changed: Any) -> Path:
        root = tmp_path / name
        (root / part).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        categories = [{"id": i, "name": name} for i, name in ((7, "cup"), (1, "person"), (3, "car"))]
        listed, annotations = [], []
        for number in range(count):
            file = f"{number:03}.png"
            pixels = rng.integers(0, 120, (40, 60, 3), dtype=np.uint8)
            pixels[10:30, 20:45, number % 3] = 255
            Image.fromarray(pixels).save(root / part / file)
            listed.append({"id": 100 + number, "file_name": file, "width": 60, "height": 40})
            corners = [20, 10, 45, 10, 45, 30, 20, 30]
            annotations.append({
                "id": number, "image_id": 100 + number, "category_id": (1, 3, 7)[number % 3], "iscrowd": 0,
                "bbox": [20, 10, 25, 20], "segmentation": [corners], "area": 500,
            })  # fmt: skip
        content = {"images": listed, "annotations": annotations, "categories": categories}
        content |= {key: change(content[key]) for key, change in changed.items()}
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
        return root

    return write


@pytest.fixture
def voc(tmp_path: Path) -> Callable[..., Path]:
    """Write a small folder in VOC's layout: apples and pears, both in every third image, none in every fifth."""

    def write(name: str = "fruits", train: int = 6, val: int = 3, masks: str = "SegmentationClass") -> Path:
        root = tmp_path / name
        folder = root / "VOCdevkit/VOC2012"
        for part in ("JPEGImages", masks, "Annotations", "ImageSets/Segmentation"):
            (folder / part).mkdir(parents=True)
        (root / "classes.txt").write_text("background\napple\npear\n")
        rng = np.random.default_rng(0)
        stems = [f"2007_{number:06d}" for number in range(train + val)]
        for number, stem in enumerate(stems):
            shown = [0, 1] if number % 3 == 0 else [] if number % 5 == 4 else [number % 2]
            pixels, mask = rng.integers(0, 120, (40, 60, 3), dtype=np.uint8), np.zeros((40, 60), np.uint8)
            objects = ""
            for label in shown:
                x = 5 + 28 * label
                mask[8:32, x - 2 : x + 22] = 255
                mask[10:30, x : x + 20] = label + 1
                pixels[10:30, x : x + 20, label] = 255
                objects += (
                    f"<object><name>{('apple', 'pear')[label]}</name><difficult>{label}</difficult><bndbox>"
                    f"<xmin>{x}</xmin><ymin>10</ymin><xmax>{x + 20}</xmax><ymax>30</ymax></bndbox>"
                    "<part><name>leaf</name></part></object>"
                )
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{stem}.jpg")
            palette = Image.fromarray(mask).convert("P")
            palette.putpalette([(37 * i) % 256 for i in range(768)])
            palette.save(folder / masks / f"{stem}.png")
            (folder / "Annotations" / f"{stem}.xml").write_text(
                f"<annotation><filename>{stem}.jpg</filename><size><width>60</width><height>40</height></size>"
                f"{objects}</annotation>"
            )
        lists = {"train": stems[:train], "val": stems[train:], "trainval": stems}
        for split, own in lists.items():
            (folder / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in own))
        return root

    return write


@pytest.fixture
def manifest() -> Callable[[Path], dict[str, Any]]:
    """Read a product's manifest."""
    return lambda folder: json.loads((folder / "manifest.json").read_text())

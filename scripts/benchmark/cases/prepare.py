"""The Prepared stage against decoding every file once with the fastest decoder at hand."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmark.lab import Lab
from benchmark.measure import interleaved
from benchmark.rows import Goal, Row
from seg.config.tree import make_objects


def run(lab: Lab) -> Iterator[Row]:
    """Ours also scales, decodes the ground truth, looks for peculiarities and writes; both use all cores."""
    store = lab.store()
    prepared: Any = make_objects(lab.config(lab.sizes.prepare_images), "data.prepared")
    records = store.get(prepared.source).records
    photos = [record.image for record in records]
    trimaps = [record.trimap for record in records if record.trimap is not None]
    workers = store.runtime.worker_count
    # By content: a few files of the data set are not what their names say.
    jpegs = {path for path in photos if path.read_bytes()[:2] == b"\xff\xd8"}

    def torchvision(path: Path) -> object:
        from torchvision.io import ImageReadMode, decode_jpeg, read_file

        return decode_jpeg(read_file(str(path)), ImageReadMode.RGB) if path in jpegs else pillow(path)

    def pillow(path: Path, size: int = 0) -> object:
        with Image.open(path) as image:
            if size:
                image.draft("RGB", (size, size))
            return image.load()

    def everything(photo: Callable[[Path], object]) -> Callable[[], object]:
        def call() -> None:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(photo, photos))
                list(pool.map(pillow, trimaps))

        return call

    def drafted(path: Path) -> object:
        return pillow(path, prepared.size)

    threads = torch.get_num_threads()
    ours, *bases = interleaved(
        [lambda: prepared.build(lab.empty("prepared"), store), everything(torchvision), everything(drafted)],
        lab.sizes.repeats,
    )
    names = ["torchvision decode_jpeg", f"Pillow, draft to {prepared.size} px"]
    fastest = min(range(len(bases)), key=lambda i: bases[i].median)
    for i, (name, base) in enumerate(zip(names, bases, strict=True)):
        yield Row(
            "data preparation",
            ours,
            f"decoding every file once, {name}",
            base,
            Goal("speed", 0.8) if i == fastest else None,
            note=f"{len(photos)} images, {len(trimaps)} trimaps, {lab.data_note()}; {workers} threads on both sides "
            f"(PyTorch {threads}); ours also scales to {prepared.size} px with antialiasing, and writes",
        )

"""Photos with a planted object."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.pets import OxfordPet
from seg.data.prepared import Pool, Prepared


@pytest.fixture
def planted(tmp_path: Path, official: Callable[..., Path]) -> Pool:
    """Photos of noise with a red disk of any place and size, whose box is of its upper left quarter."""
    root = official(trainval=16, test=8)
    rng = np.random.default_rng(0)
    folder = root / "oxford-iiit-pet"
    for path in sorted((folder / "images").glob("*.jpg")):
        width, height = Image.open(path).size
        pixels = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
        ys, xs = np.mgrid[:height, :width]
        cx, cy, r = rng.uniform(20, width - 20), rng.uniform(16, height - 16), rng.uniform(9, 14)
        disk = (xs - cx) ** 2 + (ys - cy) ** 2 < r * r
        pixels[disk] = (230, 40, 40)
        Image.fromarray(pixels).save(path, quality=95)
        trimap = np.where(disk, 1, 2).astype(np.uint8)
        Image.fromarray(trimap).save(folder / "annotations/trimaps" / f"{path.stem}.png")
        box = folder / "annotations/xmls" / f"{path.stem}.xml"
        if box.exists():
            left, top = int(max(1, cx - r)), int(max(1, cy - r))
            text = box.read_text()
            for key, value in (("xmin", left), ("ymin", top), ("xmax", int(cx)), ("ymax", int(cy))):
                start, end = text.index(f"<{key}>") + len(key) + 2, text.index(f"</{key}>")
                text = f"{text[:start]}{value}{text[end:]}"
            box.write_text(text)
    return Pool(data=Prepared(source=OxfordPet(root=str(root)), size=64))

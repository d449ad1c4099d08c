"""Reads exports with the libraries that their tools use, and saves their masks: ``read_back.py FOLDER/FORMAT ...``.

Runs in the environment of ``requirements.txt``, not in that of the package. ``FOLDER/FORMAT.npz`` gets the masks
``uint8 (H, W)`` by the stem of the image, ``1 + class`` in the order of the classes' names.
"""

import json
import sys
from pathlib import Path

import numpy as np

SIZE = 600, 800


def paint(parts: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Parts ``(class, bool mask)`` as one mask."""
    mask = np.zeros(SIZE, np.uint8)
    for name, part in parts:
        mask[part.astype(bool)] = 1 + ["cat", "dog"].index(name)
    return mask


def draw(points: list[list[float]]) -> np.ndarray:
    from pycocotools import mask as coco

    return coco.decode(coco.frPyObjects([np.ravel(points).tolist()], *SIZE))[..., 0]


def by_datumaro(folder: Path, name: str) -> dict[str, np.ndarray]:
    from datumaro import Dataset
    from datumaro.components.annotation import AnnotationType

    data, found = Dataset.import_from(str(folder), name), {}
    names = data.categories()[AnnotationType.label]
    for item in data:
        parts = []
        for one in item.annotations:
            if one.type == AnnotationType.mask:
                parts.append((names[one.label].name, one.image))
            elif one.type == AnnotationType.polygon:
                parts.append((names[one.label].name, draw(one.points)))
        found[Path(item.id).stem] = paint([part for part in parts if part[0] != "background"])
    return found


def by_label_studio(folder: Path) -> dict[str, np.ndarray]:
    from label_studio_sdk._extensions.label_studio_tools.core.label_config import parse_config
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.label_interface.objects import PredictionValue

    (tag,) = parse_config((folder / "interface.xml").read_text()).values()
    assert tag["labels"] == ["cat", "dog"] and tag["inputs"] == [{"type": "Image", "valueType": None, "value": "image"}]
    found = {}
    for task in json.loads((folder / "tasks.json").read_text()):
        (prediction,) = task["predictions"]
        PredictionValue.model_validate(prediction)
        parts = []
        for one in prediction["result"]:
            size, value = (one["original_height"], one["original_width"]), one["value"]
            assert 0 <= one["score"] <= 1
            if one["type"] == "brushlabels":
                mask = decode_rle(value["rle"]).reshape(*size, 4)[..., 3]
            else:
                mask = draw(np.array(value["points"]) / 100 * size[::-1])
            parts.append((value[one["type"]][0], mask))
        found[Path(task["data"]["image"]).stem] = paint(parts)
    return found


def by_labelme2coco(folder: Path) -> dict[str, np.ndarray]:
    from labelme2coco import get_coco_from_labelme_folder

    coco = get_coco_from_labelme_folder(str(folder)).json
    names = {one["id"]: one["name"] for one in coco["categories"]}
    found = {}
    for image in coco["images"]:
        own = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
        parts = [(names[one["category_id"]], draw(one["segmentation"][0])) for one in own]
        found[Path(image["file_name"]).stem] = paint(parts)
    return found


def by_supervision(folder: Path) -> dict[str, np.ndarray]:
    import supervision as sv

    data = sv.DetectionDataset.from_yolo(
        str(folder / "images/in"), str(folder / "labels/in"), str(folder / "data.yaml"), force_masks=True
    )
    found = {}
    for path, _, one in data:
        masks = [] if one.mask is None else one.mask
        parts = [(data.classes[label], mask) for label, mask in zip(one.class_id, masks, strict=True)]
        found[Path(path).stem] = paint(parts)
    return found


for folder in map(Path, sys.argv[1:]):
    if folder.name in ("cvat", "coco"):
        found = by_datumaro(folder, {"cvat": "voc_segmentation", "coco": "coco_instances"}[folder.name])
    else:
        found = {"yolo": by_supervision, "label_studio": by_label_studio, "labelme": by_labelme2coco}[folder.name](
            folder
        )
    np.savez(folder.with_suffix(".npz"), **found)

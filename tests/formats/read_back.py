"""Reads an export with the library that its tool uses, and saves its masks: ``read_back.py FORMAT FOLDER OUT.npz``.

Runs in the environment of ``requirements.txt``, not in that of the package. The masks are ``uint8 (H, W)`` by the stem
of the image, ``1 + class`` in the order of the classes' names.
"""

import json
import sys
from pathlib import Path

import numpy as np

kind, folder, out = sys.argv[1], Path(sys.argv[2]), sys.argv[3]


def paint(size: tuple[int, int], parts: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Parts ``(class, bool mask)`` as one mask."""
    mask = np.zeros(size, np.uint8)
    for name, part in parts:
        mask[part.astype(bool)] = 1 + ["cat", "dog"].index(name)
    return mask


def draw(points: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco

    return coco.decode(coco.frPyObjects([np.ravel(points).tolist()], *size))[..., 0]


def by_datumaro(name: str) -> dict[str, np.ndarray]:
    from datumaro import Dataset
    from datumaro.components.annotation import AnnotationType

    data, found = Dataset.import_from(str(folder), name), {}
    names = data.categories()[AnnotationType.label]
    for item in data:
        size, parts = (40, 60), []
        for one in item.annotations:
            if one.type == AnnotationType.mask:
                parts.append((names[one.label].name, one.image))
            elif one.type == AnnotationType.polygon:
                parts.append((names[one.label].name, draw(one.points, size)))
        found[Path(item.id).stem] = paint(size, [part for part in parts if part[0] != "background"])
    return found


def by_label_studio() -> dict[str, np.ndarray]:
    from label_studio_sdk._extensions.label_studio_tools.core.label_config import parse_config
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.objects import PredictionValue

    (tag,) = parse_config((folder / "interface.xml").read_text()).values()
    assert tag["labels"] == ["cat", "dog"] and tag["inputs"] == [{"type": "Image", "value": "image", "valueType": None}]
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
                mask = draw(np.array(value["points"]) / 100 * size[::-1], size)
            parts.append((value[one["type"]][0], mask))
        found[Path(task["data"]["image"]).stem] = paint((40, 60), parts)
    return found


def by_labelme2coco() -> dict[str, np.ndarray]:
    from labelme2coco import get_coco_from_labelme_folder

    coco = get_coco_from_labelme_folder(str(folder)).json
    names = {one["id"]: one["name"] for one in coco["categories"]}
    found = {}
    for image in coco["images"]:
        own = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
        parts = [(names[one["category_id"]], draw(one["segmentation"][0], (40, 60))) for one in own]
        found[Path(image["file_name"]).stem] = paint((40, 60), parts)
    return found


readers = {"label_studio": by_label_studio, "labelme": by_labelme2coco}
datumaro = {"cvat": "voc_segmentation", "voc": "voc_segmentation", "yolo": "yolo", "coco": "coco_instances"}
np.savez(out, **(readers[kind]() if kind in readers else by_datumaro(datumaro[kind])))

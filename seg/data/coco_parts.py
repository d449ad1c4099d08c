"""Where COCO's JSONs and their photos lie."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg.data.coco_file import CocoFile, read_coco
from seg.data.dataset import Split
from seg.data.layout import MissingDataError
from seg.errors import SegError


@dataclass(frozen=True)
class CocoPart:
    """A JSON and the photos that it lists.

    Attributes:
        split: what they are for.
        file: the JSON.
        folder: of the photos, an absolute path.
        photos: by their names below that, in order.
        names: those by image id.
    """

    split: Split
    file: CocoFile
    folder: Path
    photos: dict[str, Path]
    names: dict[Any, str]


def find_coco(
    root: Path,
    photos: str | None = None,
    instances: str | None = None,
    test_photos: str | None = None,
    test_instances: str | None = None,
) -> list[CocoPart]:
    """Read the JSON of trainval, and that of test if there is one; look for their photos.

    Args:
        root: what the others are relative to; see :class:`seg.data.coco.Coco`.
        photos, test_photos: folders. instances, test_instances: the JSONs.

    Raises:
        MissingDataError: no such folder or JSON, or photos that are listed are not there.
        SegError: a JSON is none.
    """
    if not root.is_dir():
        raise MissingDataError(f"data.root={root}: no such folder; give the one of the photos and the JSON")
    for name, said in (("instances", instances), ("test_instances", test_instances)):
        if said is not None and not (root / said).is_file():
            raise SegError(f"data.{name}={said}: no such file in {root}; give a COCO JSON")
    file, test = _jsons(root, instances, test_instances)
    parts = [_part("trainval", root, file, photos, "photos")]
    if test is not None:
        parts.append(_part("test", root, test, test_photos or photos, "test_photos"))
    return parts


def _jsons(root: Path, instances: str | None, test_instances: str | None) -> tuple[Path, Path | None]:
    test = root / test_instances if test_instances else None
    if instances is not None:
        return root / instances, test
    there = sorted([*root.glob("annotations/instances_*.json"), *root.glob("instances_*.json")])
    there = [path for path in there if test is None or path.resolve() != test.resolve()]
    if len(there) == 1:
        return there[0], test
    if [path.stem.removeprefix("instances_").rstrip("0123456789") for path in there] == ["train", "val"] and not test:
        return there[0], there[1]
    names = ", ".join(path.relative_to(root).as_posix() for path in there[:4])
    what = f"holds {names}; say which with" if there else "no annotations/instances_*.json; give the JSON with"
    raise MissingDataError(f"data.root={root}: {what} data.instances=FILE (and data.test_instances=FILE)")


def _part(split: Split, root: Path, instances: Path, photos: str | None, key: str) -> CocoPart:
    file, folder = read_coco(instances), root / (photos or "")
    if photos is None:
        usual = (root / instances.stem.removeprefix("instances_"), root / "images")
        folder = next((place for place in usual if place.is_dir()), root)
    if not folder.is_dir():
        raise MissingDataError(f"data.{key}={photos}: no such folder in {root}; give the one of the photos")
    names = {image_id: _below(folder, listed.file) for image_id, listed in file.images.items()}
    missing = [file.images[image_id].file for image_id, name in names.items() if name is None]
    if missing or not names:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        what = f"{len(missing)} of the {len(names)} images that it lists are not in {folder} ({some})"
        raise MissingDataError(
            f"{instances}: {what}; give the folder that has them with data.{key}=DIR, or take them out of the JSON"
            if names
            else f"{instances}: lists no image"
        )
    there = {image_id: name for image_id, name in names.items() if name is not None}
    folder = Path(os.path.abspath(folder))
    return CocoPart(split, file, folder, {name: folder / name for name in sorted(set(there.values()))}, there)


def _below(folder: Path, said: str) -> str | None:
    """The name of an image below the folder; leading folders of another place are looked past."""
    said = said.replace("\\", "/").removeprefix("./")
    while said:
        if not said.startswith("/") and ".." not in said.split("/") and os.path.isfile(folder / said):
            return Path(said).as_posix()
        said = said.partition("/")[2]
    return None

"""From the files of VOC's layout to records: labels from XML or masks, boxes with their class, what does not fit."""

import copy
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from seg.data.boxes import read_box_file
from seg.data.dataset import UNKNOWN, Box, Dataset, Record
from seg.data.decode import codes_in, mask_values
from seg.data.findings import Findings
from seg.data.voc_layout import VocParts
from seg.errors import SegError

LabelsFrom = Literal["auto", "xml", "masks"]
#: Boxes of an image, each with its class.
_Objects = list[tuple[Box, int]]


def read_voc(parts: VocParts, labels_from: LabelsFrom = "auto", *, workers: int = 1, is_toy: bool = False) -> Dataset:
    """Read XML, and as many masks as labels need; open no photo.

    Args:
        parts: the files. labels_from: ``xml``, ``masks``, or ``auto``: of each image the XML, else the mask.
        workers: threads that read masks. is_toy: whether the pictures are drawn.

    Returns:
        The data set; ``quirks`` counts what is unusual. An image of which nothing says what it shows is left out.

    Raises:
        SegError: XML that :func:`seg.data.boxes.read_box_file` refuses, class names or codes that disagree with the
            list of classes, a class of test images without a training image, no image to train on. All problems of a
            kind are reported together.
    """
    found, names = copy.deepcopy(parts.found), parts.class_names()
    whose = f"{parts.classes}" if parts.classes else "VOC's 20 (give data.classes=FILE with others)"
    objects = _objects(parts, names, whose, found)
    found.stop_if_any(parts.folder, one_line=True)
    from_xml = {i: {label for _, label in own} for i, own in objects.items()} if labels_from != "masks" else {}
    wanted = {i: path for i, path in parts.masks.items() if i not in from_xml} if labels_from != "xml" else {}
    if from_xml and wanted:
        found.quirk("images without XML (labels from their mask)", wanted)
    labels = from_xml | _masks(wanted, len(names), whose, workers, found)
    found.stop_if_any(parts.folder, one_line=True)
    silent = [i for i in parts.splits if i not in labels]
    found.quirk("images without XML or a mask that says what they show (not used)", silent)
    found.quirk("images without an object", (i for i, own in labels.items() if not own))
    if parts.masks:
        found.quirk("images without a mask", (i for i in labels if i not in parts.masks))
    if parts.xmls and labels_from == "masks":
        strange = (i for i, own in objects.items() if {label for _, label in own} - labels.get(i, set()))
        found.quirk("images with boxes of a class that their mask lacks (those boxes are not used)", strange)
    _require_classes(parts, names, labels, found)
    found.stop_if_any(parts.folder, one_line=True)
    records = tuple(
        _record(parts, i, sorted(labels[i]), objects.get(i, []), split)
        for i, split in parts.splits.items()
        if i in labels
    )
    return Dataset(names, records, found.quirks, is_toy, found.examples)


def _objects(parts: VocParts, names: tuple[str, ...], whose: str, found: Findings) -> dict[str, _Objects]:
    """What the XML of each image says, without objects of a class that is not in the list."""
    label = {name: place for place, name in enumerate(names)}
    objects: dict[str, _Objects] = {}
    strangers: dict[str, list[str]] = defaultdict(list)
    for image_id, path in parts.xmls.items():
        with found.gathering(str(path)):
            content = read_box_file(path)
            pairs = list(zip(content.boxes, content.names, strict=True))
            objects[image_id] = [(box, label[name]) for box, name in pairs if name in label]
            for name in sorted({name for _, name in pairs if name not in label}):
                strangers[name].append(image_id)
    seen = {names[label] for own in objects.values() for _, label in own}
    unused = [name for name in names if name not in seen]
    if strangers and unused:  # in both directions, as of a misspelt name
        found.problems.append(
            f"{parts.folder / 'Annotations'}: its XML names {_some(sorted(strangers))}, which the classes have not, "
            f"and never {_some(unused)}, which they have; they are {whose}: make them agree"
        )
    found.quirk(
        "XML with objects of a class that is not in the list (those are not used)",
        (f"{i}: {name}" for name, ids in sorted(strangers.items()) for i in ids),
    )
    return objects


def _masks(files: dict[str, Path], count: int, whose: str, workers: int, found: Findings) -> dict[str, set[int]]:
    """The classes in each mask that can be read."""

    def codes(path: Path) -> list[int] | SegError:
        try:
            return codes_in(mask_values(path))
        except SegError as error:
            return error

    labels: dict[str, set[int]] = {}
    bad: dict[str, SegError] = {}
    strange: dict[str, int] = {}
    with ThreadPoolExecutor(workers) as pool:
        for image_id, there in zip(files, pool.map(codes, files.values()), strict=True):
            if isinstance(there, SegError):
                bad[image_id] = there
                continue
            labels[image_id] = {code - 1 for code in there if 1 <= code <= count}
            if others := [code for code in there if count < code < UNKNOWN]:
                strange[image_id] = others[-1]
    if bad and not labels:
        found.problems.append(f"not one of {len(bad)} masks can be read: {next(iter(bad.values()))}")
    # A few are damaged masks, which are counted when they are decoded; most are masks of other classes.
    if strange and 2 * len(strange) > len(labels):
        image_id, code = max(strange.items(), key=lambda item: item[1])
        found.problems.append(
            f"{len(strange)} of {len(labels)} masks have codes that are no class, up to {code} ({files[image_id]}); "
            f"there are {count} classes, {whose}"
        )
    found.quirk("masks that cannot be read (images not used, for nothing else says what they show)", bad)
    return labels


def _require_classes(parts: VocParts, names: tuple[str, ...], labels: dict[str, set[int]], found: Findings) -> None:
    """Refuse what cannot be learnt, and yet would be measured."""
    trained, tested = (
        {label for i, own in labels.items() if parts.splits[i] == split for label in own}
        for split in ("trainval", "test")
    )
    train_list = parts.lists["trainval"]
    if not trained:
        found.problems.append(f"{train_list}: not one of its images shows an object of a class; nothing can be learnt")
    elif unlearnt := sorted(tested - trained):
        found.problems.append(
            f"{train_list}: no image of {_some(names[label] for label in unlearnt)}, which test images show; add some, "
            "or take those out of the list of test images"
        )
    found.quirk("classes without an image", (n for i, n in enumerate(names) if i not in trained | tested))


def _some(names: Iterable[str]) -> str:
    first, *more = [repr(name) for name in names]
    return ", ".join([first, *more[:4], *(["..."] if len(more) > 4 else [])])


def _record(parts: VocParts, image_id: str, labels: list[int], objects: _Objects, split: str) -> Record:
    kept = [(box, label) for box, label in objects if label in labels]
    return Record(
        id=image_id,
        image=parts.images[image_id],
        labels=tuple(labels),
        split="test" if split == "test" else "trainval",
        trimap=parts.masks.get(image_id),
        boxes=tuple(box for box, _ in kept),
        codes="classes",
        box_labels=tuple(label for _, label in kept) if len(labels) > 1 else (),
    )

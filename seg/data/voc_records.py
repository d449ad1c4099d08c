"""From the files of VOC's layout to records: labels from XML or masks, boxes with their class, what does not fit."""

import copy
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal

from seg.data.boxes import fit_box, read_box_file, to_photo
from seg.data.dataset import UNKNOWN, Box, Dataset, Record, Split
from seg.data.decode import codes_in, mask_values
from seg.data.draw import draw_by_labels
from seg.data.layout import nfc
from seg.data.read_report import ReadReport
from seg.data.voc_layout import VocParts
from seg.errors import SegError

LabelsFrom = Literal["auto", "xml", "masks"]
#: Boxes of an image, each with its class.
_Objects = list[tuple[Box, int]]


def read_voc(
    parts: VocParts,
    labels_from: LabelsFrom = "auto",
    *,
    test_share: float = 0.2,
    split_seed: int = 0,
    workers: int = 1,
    is_toy: bool = False,
) -> Dataset:
    """Read XML, of photos with boxes the size, and as many masks as labels need.

    ``workers`` threads read masks; the other arguments are those of :class:`seg.data.voc.Voc`. ``warnings`` counts what
    is unusual. An image of which nothing says what it shows is left out.

    Raises:
        SegError: XML that :func:`seg.data.boxes.read_box_file` refuses, class names or codes that disagree with the
            list of classes, a class of test images without a training image, no image to train on. All problems of a
            kind are reported together.
    """
    found, names = copy.deepcopy(parts.found), parts.names
    whose = f"{parts.classes}" if parts.classes else "VOC's 20 (give data.classes=FILE with others)"
    objects = _objects(parts, whose, found)
    found.stop_if_any(parts.folder, one_line=True)
    from_xml = {i: {label for _, label in own} for i, own in objects.items()} if labels_from != "masks" else {}
    wanted = {i: path for i, path in parts.masks.items() if i not in from_xml} if labels_from != "xml" else {}
    if from_xml and wanted:
        found.warn("images without XML (labels from their mask)", wanted)
    from_masks = _masks(parts, wanted, whose, workers, found)
    labels = from_xml | from_masks
    found.stop_if_any(parts.folder, one_line=True)
    masks = {i: path for i, path in parts.masks.items() if i not in wanted or i in from_masks}
    silent = [i for i in parts.splits if i not in labels]
    found.warn("images without XML or a mask that says what they show (not used)", silent)
    found.warn("images without an object", (i for i, own in labels.items() if not own))
    if parts.masks:
        found.warn("images without a mask", (i for i in labels if i not in masks))
    if parts.xmls and labels_from == "masks":
        strange = (i for i, own in objects.items() if {label for _, label in own} - labels.get(i, set()))
        found.warn("images with boxes of a class that their mask lacks (those boxes are not used)", strange)
    splits: dict[str, Split] = {i: split for i, split in parts.splits.items() if i in labels}
    if parts.is_drawn:
        drawn = draw_by_labels({i: tuple(sorted(labels[i])) for i in splits}, test_share, split_seed)
        splits = {i: "test" if i in drawn else "trainval" for i in sorted(splits, key=drawn.__contains__)}
    _require_classes(parts, splits, labels, found)
    found.stop_if_any(parts.folder, one_line=True)
    records = []
    for image_id, split in splits.items():
        own = sorted(labels[image_id])
        kept = [(box, label) for box, label in objects.get(image_id, []) if label in own]
        records.append(
            Record(
                id=image_id,
                image=parts.images[image_id],
                labels=tuple(own),
                split=split,
                trimap=masks.get(image_id),
                boxes=tuple(box for box, _ in kept),
                codes="classes",
                box_labels=tuple(label for _, label in kept) if len(own) > 1 else (),
                colours=parts.colours or None,
            )
        )
    return Dataset(names, tuple(records), found.warnings, is_toy, found.examples)


def _objects(parts: VocParts, whose: str, found: ReadReport) -> dict[str, _Objects]:
    """What the XML of each image says, without objects of a class that is not in the list."""
    label = {name: place for place, name in enumerate(parts.names)}
    folded = {name.casefold(): name for name in parts.names}
    objects: dict[str, _Objects] = {}
    unlisted: dict[str, list[str]] = defaultdict(list)
    other_case, misnamed = [], []
    for image_id, path in parts.xmls.items():
        with found.gathering(str(path)):
            content = read_box_file(path)
            objects[image_id] = []
            if content.filename and PurePosixPath(nfc(content.filename.replace("\\", "/"))).stem != image_id:
                misnamed.append(image_id)
            if not content.boxes:
                continue
            size, move, sentence = to_photo(content.size, parts.images[image_id])
            found.warn(sentence, [image_id] * bool(sentence))
            for box, said in zip(content.boxes, map(nfc, content.names), strict=True):
                name = said if said in label else folded.get(said.casefold())
                if name is None:
                    unlisted[said].append(image_id)
                    continue
                objects[image_id].append((fit_box(move(box), size, str(path)), label[name]))
                other_case += [f"{image_id}: {said}"] if name != said else []
    seen = {parts.names[label] for own in objects.values() for _, label in own}
    unused = [name for name in parts.names if name not in seen]
    if unlisted and unused:  # in both directions, as of a misspelt name
        found.problems.append(
            f"{parts.folder / 'Annotations'}: its XML names {_some(sorted(unlisted))}, which the classes have not, "
            f"and never {_some(unused)}, which they have; they are {whose}: make them agree"
        )
    found.warn(
        "XML with objects of a class that is not in the list (those are not used)",
        (f"{i}: {name}" for name, ids in sorted(unlisted.items()) for i in dict.fromkeys(ids)),
    )
    found.warn("objects in XML whose class is written in another case in the list", other_case)
    found.warn("XML whose <filename> is another image's (the file's own name counts)", misnamed)
    return objects


def _masks(parts: VocParts, files: dict[str, Path], whose: str, workers: int, found: ReadReport) -> dict[str, set[int]]:
    """The classes in each mask that can be read and says something."""
    count = len(parts.names)

    def codes(path: Path) -> list[int] | SegError:
        try:
            return codes_in(mask_values(path, colours=parts.colours))
        except SegError as error:
            return error

    labels: dict[str, set[int]] = {}
    bad: dict[str, SegError] = {}
    silent: list[str] = []
    strange: dict[str, int] = {}
    with ThreadPoolExecutor(workers) as pool:
        for image_id, there in zip(files, pool.map(codes, files.values()), strict=True):
            if isinstance(there, SegError):
                bad[image_id] = there
                continue
            if there == [UNKNOWN]:
                silent.append(image_id)
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
    found.warn("masks that cannot be read (images not used, for nothing else says what they show)", bad)
    found.warn("masks that are unknown all over (images not used, for nothing else says what they show)", silent)
    return labels


def _require_classes(parts: VocParts, splits: dict[str, Split], labels: dict[str, set[int]], found: ReadReport) -> None:
    """Refuse what cannot be learnt, and yet would be measured."""
    trained, tested = (
        {label for i, own in splits.items() if own == split for label in labels[i]} for split in ("trainval", "test")
    )
    train_list, names = parts.lists["trainval"], parts.names
    if not trained:
        found.problems.append(f"{train_list}: not one of its images shows an object of a class; nothing can be learnt")
    elif unlearnt := sorted(tested - trained):
        found.problems.append(
            f"{train_list}: no image of {_some(names[label] for label in unlearnt)}, which test images show; add some, "
            "or take those out of the list of test images"
        )
    found.warn("classes without an image", (n for i, n in enumerate(names) if i not in trained | tested))


def _some(names: Iterable[str]) -> str:
    first, *more = [repr(name) for name in names]
    return ", ".join([first, *more[:4], *(["..."] if len(more) > 4 else [])])

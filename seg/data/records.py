"""What the readers share: the split of each image, boxes in the pixels of their photos, and the records of it all."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from seg.data.boxes import ListedBox, fit_box, read_xml, to_photo
from seg.data.dataset import Box, Codes, Colours, Dataset, Record, Split
from seg.data.layout import TOO_LONG, MissingDataError, too_long
from seg.data.read_report import ReadReport


def present_splits(
    lists: Mapping[Split, Sequence[str]], images: Mapping[str, Path], folder: Path, found: ReadReport
) -> dict[str, Split]:
    """Split of every listed image that is there, trainval first; one that both lists name is of test alone.

    Args:
        lists: ids as listed. images: by id, those that are there. folder: where they lie. found: gets what is unusual.

    Raises:
        MissingDataError: no listed image is there.
    """
    for own in lists.values():
        found.warn("images listed twice in a split (kept once)", (i for i, n in Counter(own).items() if n > 1))
    test = dict.fromkeys(lists.get("test", ()))
    both = [i for i in dict.fromkeys(lists["trainval"]) if i in test]
    found.warn("images listed in both splits (kept in test only)", both)
    splits: dict[str, Split] = {i: "trainval" for i in lists["trainval"] if i not in test}
    splits |= dict.fromkeys(test, "test")
    found.warn("listed images that are missing", (i for i in splits if i not in images))
    found.warn("images that no list names (not used)", (i for i in images if i not in splits))
    found.problems += [f"{i[:60]!r}... is {TOO_LONG}" for i in splits if too_long(i)]
    there = {i: split for i, split in splits.items() if i in images}
    if not there:
        listed, file = next(iter(splits), ""), next(iter(images.values()), folder / "nothing").name
        what = f"none of the {len(splits)} listed images is in {folder}"
        raise MissingDataError(f"{what}: the lists name {listed[:60]!r}, say, and there is {file}")
    return there


def read_xmls(files: Mapping[str, Path], found: ReadReport) -> dict[str, list[ListedBox]]:
    """The boxes of VOC XML files by image id; a file that is none is a problem."""
    listed: dict[str, list[ListedBox]] = {}
    for image_id, path in files.items():
        with found.gathering(str(path)):
            listed[image_id] = read_xml(path, image_id)
    return listed


def place_boxes(
    listed: Mapping[str, Sequence[ListedBox]], images: Mapping[str, Path], found: ReadReport
) -> dict[str, list[ListedBox]]:
    """Boxes by image id, in the pixels of their upright photo and within it; what does not fit is a problem."""
    placed: dict[str, list[ListedBox]] = {image_id: [] for image_id in listed}
    for image_id, own in listed.items():
        if not own:
            continue
        with found.gathering(own[0].where):
            size, move, sentence = to_photo(own[0].size, images[image_id])
            found.warn(sentence, [image_id] * bool(sentence))
            for one in own:
                with found.gathering(one.where):
                    box = fit_box(move(one.box), size, one.where)
                    placed[image_id].append(one._replace(box=box))
    return placed


def make_dataset(
    place: Path,
    classes: Sequence[str],
    images: Mapping[str, Path],
    labels: Mapping[str, Iterable[int]],
    splits: Mapping[str, Split],
    masks: Mapping[str, Path],
    boxes: Mapping[str, Sequence[tuple[Box, int]]],
    found: ReadReport,
    *,
    codes: Codes,
    colours: Colours | None = None,
    is_toy: bool = False,
    folder: Path | None = None,
) -> Dataset:
    """The records of all images, trainval first, else in their order.

    Args:
        place: what messages begin with. classes: names by label. images: by id, as the next five.
        labels: at least one class is in trainval. masks, boxes: of some of the images.
        found: what is unusual so far. codes, colours: of the masks.
        is_toy, folder: as of :class:`seg.data.dataset.Dataset`.

    Raises:
        SegError: there are problems, or test images show a class that no trainval image does.
    """
    sets = {i: tuple(sorted(labels[i])) for i in images}
    shown: dict[Split, set[int]] = {"trainval": set(), "test": set()}
    for i, own in sets.items():
        shown[splits[i]].update(own)
    if untrained := [classes[label] for label in sorted(shown["test"] - shown["trainval"])]:
        names = ", ".join(map(repr, untrained[:5])) + (", ..." if len(untrained) > 5 else "")
        what = f"no trainval image of {names}, which test images show"
        found.problems.append(f"{place}: {what}; add some, or take those out of the test images")
    found.stop_if_any(place, one_line=True)
    seen = shown["test"] | shown["trainval"]
    found.warn("classes without an image", (name for label, name in enumerate(classes) if label not in seen))
    found.warn("images without an object", (i for i, own in sets.items() if not own))
    found.warn("images without a mask", (i for i in images if masks and i not in masks))
    unboxed = (i for i in images if boxes and sets[i] and splits[i] == "trainval" and not boxes.get(i))
    found.warn("trainval images without boxes", unboxed)
    records = [
        Record(
            id=i,
            image=file,
            labels=sets[i],
            split=splits[i],
            trimap=masks.get(i),
            boxes=tuple(box for box, _ in boxes.get(i, ())),
            codes=codes if i in masks else "trimap",
            box_labels=tuple(label for _, label in boxes.get(i, ())) if len(sets[i]) > 1 else (),
            colours=colours,
        )
        for i, file in images.items()
    ]
    records.sort(key=lambda record: record.split == "test")
    return Dataset(tuple(classes), tuple(records), found.warnings, is_toy, found.examples, folder)

"""Shared by the readers of folders: the files of a layout by image id, and the records made from them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

from seg.data.boxes import ListedBox, fit_box, read_xml
from seg.data.dataset import Box, Codes, Colours, Dataset, Record, Split
from seg.data.decode import image_size
from seg.data.layout import TOO_LONG, MissingDataError, nfc, too_long
from seg.data.read_report import ReadReport
from seg.errors import SegError


@dataclass(frozen=True)
class Layout:
    """The files of a data set, found by names and lists; no image was opened.

    Attributes:
        folder: the images' names are relative to it.
        classes: names by label.
        images: path by image id; ``splits``, ``labels`` and ``masks`` are by image id, too.
        splits: empty if test images have yet to be drawn.
        labels: empty if they are read from the contents of files.
        masks: of some of the images. codes, colours: their coding, see :class:`seg.data.dataset.Record`.
        boxes: the files of boxes by name.
        texts: the lists that were read: ``trainval``, ``test``, ``classes``, ``labels``, ``colours``.
        report: the warnings.
    """

    folder: Path
    classes: tuple[str, ...]
    images: dict[str, Path]
    splits: dict[str, Split]
    labels: dict[str, tuple[int, ...]]
    masks: dict[str, Path]
    codes: Codes
    boxes: dict[str, Path]
    texts: dict[str, Path]
    colours: Colours | None = None
    report: ReadReport = field(default_factory=ReadReport)

    def content(self) -> Iterator[tuple[str, Path]]:
        """Name and path of every file that is read."""
        # A photo's folder may be its class.
        images = {nfc(path.relative_to(self.folder).as_posix()): path for path in self.images.values()}
        kinds = {"images": images, "masks": self.masks, "boxes": self.boxes, "texts": self.texts}
        return ((f"{kind}/{name}", path) for kind, files in kinds.items() for name, path in files.items())

    def copy(self) -> "Layout":
        """A copy with its own report."""
        return replace(self, report=deepcopy(self.report))


def listed_splits(
    lists: Mapping[Split, Sequence[str]], images: Mapping[str, Path], folder: Path, report: ReadReport
) -> dict[str, Split]:
    """Split of every listed image that exists, trainval first; one that both lists name is in the test split only.

    Args:
        lists: the listed ids. images: the existing images by id. folder: that holds them. report: gets the warnings.

    Raises:
        MissingDataError: no listed image exists.
    """
    for own in lists.values():
        report.warn("images listed twice in a split (kept once)", (i for i, n in Counter(own).items() if n > 1))
    test = dict.fromkeys(lists.get("test", ()))
    both = [i for i in dict.fromkeys(lists["trainval"]) if i in test]
    report.warn("images listed in both splits (kept in test only)", both)
    splits: dict[str, Split] = {i: "trainval" for i in lists["trainval"] if i not in test}
    splits |= dict.fromkeys(test, "test")
    report.warn("listed images that are missing", (i for i in splits if i not in images))
    report.warn("images that no list names (not used)", (i for i in images if i not in splits))
    report.problems += [f"{i[:60]!r}... is {TOO_LONG}" for i in splits if too_long(i)]
    there = {i: split for i, split in splits.items() if i in images}
    if not there:
        listed, file = next(iter(splits), ""), next(iter(images.values()), folder / "nothing").name
        what = f"none of the {len(splits)} listed images is in {folder}"
        raise MissingDataError(f"{what}: the lists name {listed[:60]!r}, for example, and the folder has {file}")
    report.raise_problems(folder)
    return there


def read_xmls(layout: Layout) -> dict[str, list[ListedBox]]:
    """The boxes in a layout's VOC XML files by image id; an unreadable file is a problem."""
    listed: dict[str, list[ListedBox]] = {}
    for image_id, path in layout.boxes.items():
        with layout.report.collecting(str(path)):
            listed[image_id] = read_xml(path, image_id)
    return listed


def place_boxes(
    listed: Mapping[str, Sequence[ListedBox]], images: Mapping[str, Path], report: ReadReport
) -> dict[str, list[ListedBox]]:
    """Clip boxes to their upright photo, by image id; a box far outside is a problem.

    If the box file states another image size, the image's boxes are not used.
    """
    placed: dict[str, list[ListedBox]] = {image_id: [] for image_id in listed}
    for image_id, own in listed.items():
        size, is_same = own[0].size if own else None, True
        with suppress(SegError):  # a photo that cannot be read is reported when it is decoded
            if own:
                size = image_size(images[image_id])
                is_same = own[0].size in (None, size)
        if not is_same:
            report.warn("images of another size than their boxes' file says (boxes not used)", [image_id])
            continue
        for one in own:
            with report.collecting(one.where):
                placed[image_id].append(one._replace(box=fit_box(one.box, size, one.where)))
    return placed


def make_dataset(layout: Layout, boxes: Mapping[str, Sequence[ListedBox]]) -> Dataset:
    """Make the records of all labelled images, trainval first.

    A box without a class gets its image's only class. Boxes of a class that is not among the image's labels are not
    used.

    Raises:
        SegError: the report has problems, or a class occurs in test images only.
    """
    report, classes, label_of = layout.report, layout.classes, {name: i for i, name in enumerate(layout.classes)}
    shown: dict[Split, set[int]] = {"trainval": set(), "test": set()}
    unlike, records = [], []
    for i, labels in layout.labels.items():
        own: list[tuple[Box, int]] = []
        for one in boxes.get(i, ()):
            label = label_of.get(one.class_name) if one.class_name or len(labels) != 1 else labels[0]
            if label in labels:
                own.append((one.box, label))
            else:
                unlike.append(f"{one.where}: {one.class_name or 'no class'}")
        shown[layout.splits[i]].update(labels)
        records.append(
            Record(
                id=i,
                image=layout.images[i],
                labels=labels,
                split=layout.splits[i],
                trimap=layout.masks.get(i),
                boxes=tuple(box for box, _ in own),
                codes=layout.codes,
                box_labels=tuple(label for _, label in own) if len(labels) > 1 else (),
                colours=layout.colours,
            )
        )
    if untrained := [classes[label] for label in sorted(shown["test"] - shown["trainval"])]:
        names = ", ".join(map(repr, untrained[:5])) + (", ..." if len(untrained) > 5 else "")
        what = f"no trainval image of {names}, which test images have"
        report.problems.append(f"{layout.folder}: {what}; add some, or take those out of the test images")
    report.raise_problems(layout.folder)
    report.warn("boxes of a class that is not among their image's labels (not used)", unlike)
    both = shown["test"] | shown["trainval"]
    report.warn("classes without an image", (name for name, label in label_of.items() if label not in both))
    report.warn("images without an object", (r.id for r in records if not r.labels))
    report.warn("images without a mask", (r.id for r in records if layout.masks and r.trimap is None))
    unboxed = (r.id for r in records if boxes and r.labels and r.split == "trainval" and not r.boxes)
    report.warn("trainval images without boxes", unboxed)
    records.sort(key=lambda record: record.split == "test")
    return Dataset(classes, tuple(records), report.warnings, report.examples, layout.folder)

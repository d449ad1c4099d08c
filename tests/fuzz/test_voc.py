"""Lists, class names and XML of VOC's layout, as people and tools write them: read, or refused in a line."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from limits import EXAMPLES, tried
from PIL import Image

from seg.data.voc import find_voc, read_voc

word = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["a", "b", "cat", "dog", "background", "../a", "/JPEGImages/a.jpg x", "x" * 300]),
)
lines = st.lists(word, max_size=6).map("\n".join)
objects = st.lists(st.tuples(st.sampled_from(["cat", "dog", "", "rat"]), st.integers(-2, 12)), max_size=3)
codes = st.lists(st.integers(0, 255), min_size=1, max_size=4)


@EXAMPLES
@given(lines, lines, lines, st.none() | objects, codes, st.sampled_from(["auto", "xml", "masks"]))
def test_any_folder(train, val, classes, there, mask, labels_from):  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        root = Path(place)
        folder = root / "VOCdevkit/VOC2012"
        for part in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
            (folder / part).mkdir(parents=True)
        for name, text in (("train", train), ("val", val)):
            path = folder / f"ImageSets/Segmentation/{name}.txt"
            path.write_text(text, encoding="utf-8", errors="replace")
        (root / "classes.txt").write_text(classes, encoding="utf-8", errors="replace")
        for stem in ("a", "b"):
            (folder / f"JPEGImages/{stem}.jpg").touch()
        Image.fromarray(np.asarray([mask], np.uint8)).save(folder / "SegmentationClass/a.png")
        if there is not None:
            sides = "<xmin>0</xmin><ymin>0</ymin><xmax>{}</xmax><ymax>5</ymax>"
            said = (f"<object><name>{n}</name><bndbox>{sides.format(x)}</bndbox></object>" for n, x in there)
            (folder / "Annotations/a.xml").write_text(f"<annotation>{''.join(said)}</annotation>")
        data = tried(lambda: read_voc(find_voc(root), labels_from))
        for record in data.records if data else ():
            assert record.id in "ab" and record.labels == tuple(sorted(set(record.labels)))
            assert all(0 <= label < len(data.classes) for label in record.labels)
            boxed = record.box_labels or record.labels * len(record.boxes)
            assert len(boxed) == len(record.boxes) and set(boxed) <= set(record.labels)

"""Boxes: brought into their image, and the list file; what is read from XML is in the tests of VOC."""

from pathlib import Path

import pytest

from seg.data.boxes import fit_box, read_xml, write_bbox_list
from seg.errors import SegError

INF, NAN = float("inf"), float("nan")


def test_bbox_list(tmp_path: Path) -> None:
    path = tmp_path / "trimaps_bbox.txt"
    write_bbox_list(path, [("a.png", (333.0, 72, 425, 158)), ("a.png", (0, 0.5, 1e6, 2.25))])
    assert path.read_text() == "a.png 333 72 425 158\na.png 0 0.5 1000000 2.25\n"


def test_boxes_are_cut_by_a_pixel_and_no_more() -> None:
    assert fit_box((-1, 0.5, 61, 40), (40, 60), "a.xml") == (0, 0.5, 60, 40)
    assert fit_box((1, 2, 900, 800), None, "a.xml") == (1, 2, 900, 800)
    for box in ((-1.5, 0, 9, 9), (0, 0, 9, 41.5), (60.5, 0, 61, 9), (0, 0, INF, 9), (-INF, 0, 9, 9)):
        with pytest.raises(SegError, match=r"^a\.xml: box outside of its 60 x 40 image \(xmin=.*\); correct the file"):
            fit_box(box, (40, 60), "a.xml")
    for box in ((3, 2, 3, 4), (1, 9, 3, 4), (1, 2, NAN, 4)):
        with pytest.raises(SegError, match=r"^a\.xml: empty box \(xmin="):
            fit_box(box, (40, 60), "a.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_followed(tmp_path: Path, encoding: str) -> None:
    """Neither those of others, which are gigabytes, nor a file that one names, nor an address."""
    path = tmp_path / "a.xml"
    for entity in ('a "xxxx"', f'a SYSTEM "file://{path}"'):
        path.write_bytes(f"<!DOCTYPE a [<!ENTITY {entity}>]><a><object><name>&a;</name></object></a>".encode(encoding))
        with pytest.raises(SegError, match=r"a\.xml: XML that does not parse .it declares an entity, which is not"):
            read_xml(path, "a")
    path.write_text("<!DOCTYPE annotation SYSTEM 'http://localhost:9/x.dtd'><annotation/>")
    assert read_xml(path, "a") == []

"""Boxes: the list file, and XML that is refused."""

from pathlib import Path

import pytest

from seg.data.boxes import read_box_file, write_bbox_list
from seg.errors import SegError


def test_bbox_list(tmp_path: Path) -> None:
    path = tmp_path / "trimaps_bbox.txt"
    write_bbox_list(path, [("a.png", (333.0, 72, 425, 158)), ("a.png", (0, 0.5, 1e6, 2.25))])
    assert path.read_text() == "a.png 333 72 425 158\na.png 0 0.5 1000000 2.25\n"
    write_bbox_list(path, [])
    assert path.read_text() == ""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_followed(tmp_path: Path, encoding: str) -> None:
    """Neither the gigabytes of nested ones, nor a file that one names, nor an address."""
    (tmp_path / "secret").write_text("secret.jpg")
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    for declared in (f'<!ENTITY a0 "x">{laughs}', f'<!ENTITY a11 SYSTEM "file://{tmp_path}/secret">'):
        path = tmp_path / "a.xml"
        text = f"<!DOCTYPE annotation [{declared}]><annotation><filename>&a11;</filename></annotation>"
        path.write_bytes(text.encode(encoding))
        with pytest.raises(
            SegError, match=r"a\.xml: XML that does not parse .it declares the entity a\d+, which is not"
        ):
            read_box_file(path)
    path.write_text("<!DOCTYPE annotation SYSTEM 'http://localhost:9/x.dtd'><annotation/>")
    assert read_box_file(path).boxes == ()

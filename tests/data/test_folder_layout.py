"""What lies in a folder of photos."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from seg.data.folder_layout import Names, find_parts, image_ids
from seg.data.image_folder import ImageFolder
from seg.data.layout import MissingDataError
from seg.errors import SegError

Photos = Callable[..., Path]


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_a_class_is_a_folder_with_images(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.JPG", "cat/c.png", "cat/a.webp", "cat/deep/er/d.tiff", "cat/a.jpg", "loose.png")
    touch(tmp_path, "cat/._c.png", "cat/notes.txt", "cat/.DS_Store", "empty/notes.txt", ".thumbnails/x.png")
    parts = find_parts(tmp_path)
    assert list(parts.images) == ["cat/a.jpg", "cat/c.png", "cat/deep/er/d.tiff", "dog/b.JPG"]
    assert all(path == tmp_path / name for name, path in parts.images.items())
    assert parts.masks_folder is parts.boxes is parts.test_list is None and not parts.masks
    assert {names[0] for names in parts.skipped.values()} == {
        "cat/._c.png", "cat/notes.txt", "empty", "loose.png", "cat/a.webp"
    }  # fmt: skip


def test_what_lies_beside_the_classes_is_found_and_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "masks/a.png", "masks/cat/b.png", "masks/._a.png", "boxes/a.xml")
    parts = find_parts(tmp_path)
    assert list(parts.images) == ["cat/a.jpg"] and set(parts.masks) == {"a", "cat/b"}
    assert parts.boxes == tmp_path / "boxes" and parts.masks_folder == tmp_path / "masks"
    assert [name for name, _ in parts.content()] == ["images/cat/a.jpg", "masks/a", "masks/cat/b", "boxes/a.xml"]
    without = find_parts(tmp_path, masks=False)
    assert list(without.images) == ["cat/a.jpg"] and not without.masks
    elsewhere = find_parts(tmp_path, masks=str(tmp_path / "boxes"))
    # The usual folder of masks is no class, wherever those are that count.
    assert set(elsewhere.images) == {"cat/a.jpg"}
    # A folder of that name with photos in it is a class by itself.
    touch(tmp_path / "other", "masks/a.jpg", "none/b.jpg", "boxes/c.jpg")
    assert set(find_parts(tmp_path / "other").images) == {"masks/a.jpg", "none/b.jpg", "boxes/c.jpg"}


def test_two_lists_of_boxes_have_to_be_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "boxes.csv", "boxes.json")
    with pytest.raises(SegError, match=r"say which to use with data\.boxes_from="):
        find_parts(tmp_path)
    assert find_parts(tmp_path, boxes=str(tmp_path / "boxes.json")).boxes == tmp_path / "boxes.json"


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ([], {}, "no image in a folder of a class"),
        (["a.jpg", "b.jpg"], {}, "its 2 images lie in no folder"),
        (["train/cat/a.jpg", "test/cat/b.jpg"], {}, "test, train are splits, not classes"),
        (["annotations/trainval.txt", "images/a.jpg"], {}, "use data=oxford_pet"),
        (["cat/a.jpg"], {"masks": "nowhere"}, "data.masks=nowhere: no such folder"),
        (["cat/a.jpg"], {"boxes": "nowhere.csv"}, "data.boxes_from=nowhere.csv: no such"),
        (["cat/a.jpg"], {"test_list": "nowhere.txt"}, "data.test_list=nowhere.txt: no such file"),
    ],
)
def test_what_is_refused(tmp_path: Path, names: list[str], options: dict[str, str], said: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(SegError, match=said) as error:
        find_parts(tmp_path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="none: no such folder"):
        find_parts(tmp_path / "none")


def test_ids_are_stems_made_unique_by_their_folders() -> None:
    ids = image_ids(["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/x/2.b.png"])
    assert ids == {"cat/1.jpg": "cat_1", "cat/2.jpg": "2", "dog/1.jpg": "dog_1", "dog/x/2.b.png": "2.b"}
    with pytest.raises(SegError, match="both would be called cat_1"):
        image_ids(["cat/1.jpg", "dog/1.jpg", "dog/cat_1.jpg"])
    with pytest.raises(SegError, match="rename the file"):
        image_ids(["cat/1\n.jpg"])


def test_an_image_by_any_of_its_names() -> None:
    names = Names(image_ids(["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"]))
    for said in ("2", "2.jpg", "cat/2", "cat/2.jpg", "./cat/2.jpg", "cat\\2.jpg"):
        assert names.find(said) == "2"
    assert names.find("cat/1.jpg") == names.find("cat_1") == "cat_1"
    assert names.find("dog/2.jpg") is None and names.find("train/dog/2.jpg") is None
    assert names.find("train/cat/2.jpg", anywhere=True) == "2"
    with pytest.raises(SegError, match="2 images; write class/file"):
        names.find("1.jpg")


# -- links, pipes, and names ----------------------------------------------------------------------------


def test_a_link_that_leads_back_up_makes_no_copies(photos: Photos) -> None:
    root = photos(images=2)
    (root / "cat/up").symlink_to("..")
    (root / "cat/dogs").symlink_to(root / "dog")
    (root / "again").symlink_to("cat")
    (root / "cat/itself").symlink_to("itself")
    (root / "loop").symlink_to("loop")
    parts = find_parts(root)
    assert list(parts.images) == ["cat/cat1.png", "cat/cat2.png", "dog/dog1.png", "dog/dog2.png"]
    skipped = parts.skipped["links to folders that are looked at anyway (not followed)"]
    assert skipped == ["again", "cat/dogs", "cat/up"]


def test_a_link_to_photos_elsewhere_is_followed_once(photos: Photos, tmp_path: Path) -> None:
    root, elsewhere = photos(classes=("cat",), images=1), photos("elsewhere", classes=("dog",), images=1)
    (elsewhere / "dog/back").symlink_to(elsewhere / "dog")
    (elsewhere / "dog/home").symlink_to(root)
    (root / "dog").symlink_to(elsewhere / "dog")
    (root / "hound").symlink_to(elsewhere)
    assert list(find_parts(root).images) == ["cat/cat1.png", "dog/dog1.png"]


def test_a_folder_of_masks_is_no_class_where_others_are_named(photos: Photos, tmp_path: Path) -> None:
    root, elsewhere = photos(images=2), tmp_path / "elsewhere"
    for place in (root / "masks", elsewhere):
        place.mkdir()
        Image.new("L", (60, 40)).save(place / "cat1.png")
    parts = find_parts(root, str(elsewhere))
    assert {name.split("/")[0] for name in parts.images} == {"cat", "dog"}
    assert parts.masks == {"cat1": elsewhere / "cat1.png"}
    assert parts.skipped[f"folders of masks beside data.masks={elsewhere} (not used)"] == ["masks"]


def test_a_folder_that_cannot_be_read_is_not_dropped(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = photos(images=2), os.scandir

    def denied(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(SegError, match=r"dog: cannot be read \(Permission denied\)"):
        find_parts(root)


def test_names_after_which_no_file_can_be_called_are_refused() -> None:
    with pytest.raises(SegError, match="a name of more than 220 bytes"):
        image_ids([f"cat/{'ä' * 111}.jpg"])
    assert image_ids([f"cat/{'a' * 220}.jpg"])


@pytest.mark.parametrize("name", ["cat/pipe.jpg", "masks/pipe.png", "boxes/pipe.xml"])
def test_a_pipe_does_not_hang(photos: Photos, name: str) -> None:
    root = photos(images=2)
    (root / name).parent.mkdir(exist_ok=True)
    os.mkfifo(root / name)
    with pytest.raises(SegError, match=r"pipe\.\w+: cannot be read \(is a pipe, a socket or a device, no file\)"):
        _ = ImageFolder(root=str(root)).fingerprint

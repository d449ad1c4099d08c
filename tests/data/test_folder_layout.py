"""What lies in a folder of photos."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

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
    touch(
        tmp_path, "dog/b.JPG", "cat/c.png", "cat/a.webp", "cat/deep/er/d.tiff", "cat/a.jpg", "loose.png", "dog/e.jfif"
    )
    touch(tmp_path, "cat/._c.png", "cat/notes.txt", "cat/.DS_Store", "empty/notes.txt", ".thumbnails/x.png")
    touch(tmp_path, "cat/f.heic", "dog/g.HEIC", "dog/h.svg", "dog/i.tga", "dog/Thumbs.db", "_annotations.csv")
    parts = find_parts(tmp_path)
    assert list(parts.images) == ["cat/a.jpg", "cat/c.png", "cat/deep/er/d.tiff", "dog/b.JPG", "dog/e.jfif"]
    assert all(path == tmp_path / name for name, path in parts.images.items())
    assert parts.masks_folder is parts.boxes is parts.test_list is None and not parts.masks
    unread = "files ending in {}, which are not read here (not used; convert them to JPEG or PNG)"
    assert parts.skipped == {
        "'._' files that macOS left behind (skipped)": ["cat/._c.png"],
        "files of other kinds (skipped)": ["cat/notes.txt", "dog/Thumbs.db", "empty/notes.txt"],
        "images of the name of another, in another format (skipped)": ["cat/a.webp"],
        "folders without images (no class)": ["empty"],
        "tables in data.root (not used; see data.labels_from, data.boxes_from)": ["_annotations.csv"],
        "images beside the folders of the classes (not used)": ["loose.png"],
        **{unread.format(e): n for e, n in ((".heic", ["cat/f.heic", "dog/g.HEIC"]), (".svg", ["dog/h.svg"]))},
        unread.format(".tga"): ["dog/i.tga"],
    }


def test_what_lies_beside_the_classes_is_found_and_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "masks/a.png", "masks/cat/b.png", "masks/._a.png", "boxes/a.xml")
    parts = find_parts(tmp_path)
    assert list(parts.images) == ["cat/a.jpg"] and set(parts.masks) == {"a.png", "cat/b.png"}
    assert parts.boxes == tmp_path / "boxes" and parts.masks_folder == tmp_path / "masks"
    names = ["images/cat/a.jpg", "masks/a.png", "masks/cat/b.png", "boxes/a.xml"]
    assert [name for name, _ in parts.content()] == names
    without = find_parts(tmp_path, masks=False)
    assert list(without.images) == ["cat/a.jpg"] and not without.masks
    touch(tmp_path / "elsewhere", "a.tif")
    elsewhere = find_parts(tmp_path, str(tmp_path / "elsewhere"))
    assert set(elsewhere.images) == {"cat/a.jpg"} and elsewhere.masks == {"a.tif": tmp_path / "elsewhere/a.tif"}
    assert elsewhere.skipped[f"folders of masks beside data.masks={tmp_path / 'elsewhere'} (not used)"] == ["masks"]
    touch(tmp_path, "boxes.csv")
    with pytest.raises(SegError, match=r"say which to use with data\.boxes_from="):
        find_parts(tmp_path)
    assert find_parts(tmp_path, boxes=str(tmp_path / "boxes.csv")).boxes == tmp_path / "boxes.csv"


@pytest.mark.parametrize(
    ("names", "suffix", "found"),
    [
        (["masks/1_mask.png", "masks/a_b_mask.png"], None, "_mask"),
        (["masks/cat/1-x.png", "masks/thing-x.gif"], None, "-x"),
        (["masks/1.png", "masks/2_mask.png"], None, ""),
        (["masks/1.png", "masks/2_mask.png"], "_mask", "_mask"),
        (["cat/1_segmentation.png"], None, "_segmentation"),  # beside its image
        (["cat/1_own.png"], "_own", "_own"),
        (["Ground_Truth/1.jpg.png"], None, ""),
    ],
)
def test_masks_with_a_suffix(tmp_path: Path, names: list[str], suffix: str | None, found: str) -> None:
    touch(tmp_path, "cat/1.jpg", "cat/2.jpg", "cat/a_b.jpg", *names)
    parts = find_parts(tmp_path, mask_suffix=suffix)
    assert {*parts.masks.values()} == {tmp_path / name for name in names} and parts.mask_suffix == found
    assert set(parts.images) == {"cat/1.jpg", "cat/2.jpg", "cat/a_b.jpg"}
    assert set(find_parts(tmp_path, mask_suffix="").images) - set(parts.images) == {n for n in names if "cat/1_" in n}


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ([], {}, "no image in a folder of a class"),
        (["a.jpg", "b.jpg"], {}, "its 2 images lie in no folder"),
        (["train/cat/a.jpg", "test/cat/b.jpg"], {}, "test, train are splits, not classes"),
        (["train/cat/a.jpg", "train/dog/b.jpg"], {}, "train are splits, not classes"),
        (["train/a.jpg", "trainannot/a.png"], {}, "train, trainannot are splits, not classes"),
        (["cat/images/a.jpg", "cat/masks/a.png"], {}, "cat/masks/a.png: looks like a mask among the images; put the"),
        (
            ["cat/a.heic", "dog/b.heic"],
            {},
            "no image in a folder of a class, but 2 files ending in .heic, which are not",
        ),
        (["annotations/trainval.txt", "images/a.jpg"], {}, "use data=oxford_pet"),
        (["cat/a.jpg"], {"masks": "nowhere"}, "data.masks=nowhere: no such folder at /.*/nowhere; give"),
        (["cat/a.jpg"], {"boxes": "nowhere.csv"}, "data.boxes_from=nowhere.csv: no such"),
        (["cat/a.jpg"], {"test_list": "nowhere.txt"}, "data.test_list=nowhere.txt: no such file"),
        (["cat/a.jpg"], {"labels": "nowhere.csv"}, "data.labels_from=nowhere.csv: no such file"),
        (["cat/a.jpg", "masks/a.png", "mask/a.png"], {}, "mask and .*/masks: say which to use with data.masks="),
        (["cat/a.jpg", "masks/a.jpg"], {}, "masks/a.jpg: 1 of 1 masks are in a format that changes pixels .* make PNG"),
        (["cat/a.jpg", "cat/a_mask.jpg"], {}, "a_mask.jpg: 1 of 1 masks are in a format .* data.mask_suffix=''"),
    ],
)
def test_what_is_refused(tmp_path: Path, names: list[str], options: dict[str, str], said: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(SegError, match=said) as error:
        find_parts(tmp_path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDataError, match="none: no such folder; give one"):
        find_parts(tmp_path / "none")
    (tmp_path / ".hydra").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingDataError, match=rf"=none: no such folder at {tmp_path}/none \(hydra\.job\.chdir=true"):
        find_parts(Path("none"))


def test_ids_are_stems_made_unique_by_their_folders() -> None:
    ids = image_ids(["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/x/2.b.png", f"cat/{'a' * 220}.jpg"])
    assert list(ids.values()) == ["cat_1", "2", "dog_1", "2.b", "a" * 220]
    for names, said in (
        (["cat/1.jpg", "dog/1.jpg", "dog/cat_1.jpg"], "both would be called cat_1"),
        (["cat/1\n.jpg"], "rename the file"),
        ([f"cat/{'ä' * 111}.jpg"], "a name of more than 220 bytes"),
    ):
        with pytest.raises(SegError, match=said):
            image_ids(names)


def test_an_image_by_any_of_its_names(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/a b.JPG", unicodedata.normalize("NFD", "dog/é.jpg"))
    names = Names(image_ids(find_parts(tmp_path).images))
    for said in ("2", "2.jpg", "2.JPG", "2.png", "cat/2", "cat/2.jpg", "./cat/2.jpg", "cat\\2.jpg"):
        assert names.find(said) == "2"
    assert names.find("cat/1.jpg") == names.find("cat_1") == "cat_1" and names.find("a b.jpg") == "a b"
    assert names.find("é") == names.find(unicodedata.normalize("NFD", "dog/é.jpg")) == "é"
    assert names.find("dog/2.jpg", anywhere=True) is names.find("train/dog/2.jpg", anywhere=True) is None
    for said in ("train/cat/2.jpg", "C:\\photos\\cat\\2.jpg", "https://example.org/cat/2.jpg", "/home/me/2.jpg"):
        assert names.find(said) is None and names.find(said, anywhere=True) == "2"
    with pytest.raises(SegError, match="2 images; write class/file"):
        names.find("1.jpg")


# -- links and pipes --------------------------------------------------------------------------------------


def test_links_to_folders_make_no_copies(photos: Photos) -> None:
    root, elsewhere = photos(images=2), photos("elsewhere", classes=("cow",), images=1)
    (root / "cat/up").symlink_to("..")
    (root / "cat/dogs").symlink_to(root / "dog")
    (root / "again").symlink_to("cat")
    (root / "loop").symlink_to("loop")
    (elsewhere / "cow/home").symlink_to(root)
    (root / "cow").symlink_to(elsewhere / "cow")
    (root / "more").symlink_to(elsewhere)
    parts = find_parts(root)
    assert list(parts.images) == ["cat/cat1.png", "cat/cat2.png", "cow/cow1.png", "dog/dog1.png", "dog/dog2.png"]
    skipped = parts.skipped["links to folders that are looked at anyway (not followed)"]
    assert sorted(skipped) == ["again", "cat/dogs", "cat/up", "cow/home", "more"]


def test_a_folder_that_cannot_be_read_is_not_dropped(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = photos(images=2), os.scandir

    def denied(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(SegError, match=r"dog: cannot be read \(Permission denied\)"):
        find_parts(root)


@pytest.mark.parametrize("name", ["cat/pipe.jpg", "masks/pipe.png", "boxes/pipe.xml"])
def test_a_pipe_does_not_hang(photos: Photos, name: str) -> None:
    root = photos(images=2)
    (root / name).parent.mkdir(exist_ok=True)
    os.mkfifo(root / name)
    with pytest.raises(SegError, match=r"pipe\.\w+: cannot be read \(is a pipe, a socket or a device, no file\)"):
        _ = ImageFolder(root=str(root)).fingerprint

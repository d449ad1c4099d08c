import hashlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from seg.data.toy.coats import BREEDS
from seg.data.toy.pets import BACKGROUND, BORDER, PET, draw_picture, draw_toy_pets
from seg.errors import SegError

IMAGES, NAMES = 22, 4


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy")
    draw_toy_pets(out, images=IMAGES, breeds=NAMES, size=72, seed=3)
    return out / "oxford-iiit-pet"


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _lines(toy: Path, name: str) -> list[list[str]]:
    text = (toy / "annotations" / f"{name}.txt").read_text()
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


def _trimap(toy: Path, stem: str) -> np.ndarray:
    return np.asarray(Image.open(toy / "annotations" / "trimaps" / f"{stem}.png"))


def test_same_seed_same_bytes_other_seed_other_pictures(toy: Path, tmp_path: Path) -> None:
    draw_toy_pets(tmp_path / "again", images=IMAGES, breeds=NAMES, size=72, seed=3)
    draw_toy_pets(tmp_path / "other", images=IMAGES, breeds=NAMES, size=72, seed=4)
    first, again = _digest(toy), _digest(tmp_path / "again" / "oxford-iiit-pet")
    other = _digest(tmp_path / "other" / "oxford-iiit-pet")
    assert first == again
    assert first.keys() == other.keys()
    pictures = [name for name in first if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 2 * IMAGES
    assert all(first[name] != other[name] for name in pictures)


def test_a_larger_set_begins_with_the_smaller_one(toy: Path, tmp_path: Path) -> None:
    draw_toy_pets(tmp_path, images=12, breeds=NAMES, size=72, seed=3)
    small, large = _digest(tmp_path / "oxford-iiit-pet"), _digest(toy)
    assert all(large[name] == digest for name, digest in small.items() if not name.endswith(".txt"))


def test_layout_is_the_official_one(toy: Path) -> None:
    listed, trainval, test = (_lines(toy, name) for name in ("list", "trainval", "test"))
    assert (toy / "annotations" / "list.txt").read_text().startswith("#Image CLASS-ID SPECIES BREED ID\n")
    assert len(listed) == IMAGES and sorted(listed) == sorted(trainval + test)
    stems = {line[0] for line in listed}
    assert {p.stem for p in (toy / "images").iterdir()} == stems
    assert {p.stem for p in (toy / "annotations" / "trimaps").iterdir()} == stems
    assert {p.stem for p in (toy / "annotations" / "xmls").iterdir()} == {line[0] for line in trainval}
    for stem, label, species, _ in listed:
        breed = stem.rsplit("_", 1)[0]
        assert species == ("1" if breed[0].isupper() else "2")
        names = sorted({line[0].rsplit("_", 1)[0] for line in listed}, key=str.lower)
        assert label == str(names.index(breed) + 1)
        assert (toy / "images" / f"{stem}.jpg").read_bytes()[:2] == b"\xff\xd8"
    for lines in (trainval, test):
        assert {line[1] for line in lines} == {str(i + 1) for i in range(NAMES)}
    # breeds are numbered from 1 within their species
    assert {(line[2], line[3]) for line in listed if line[2] == "1"} == {("1", "1"), ("1", "2"), ("1", "3")}
    assert {(line[2], line[3]) for line in listed if line[2] == "2"} == {("2", "1")}


def test_torchvision_reads_it(toy: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    data = datasets.OxfordIIITPet(toy.parent, split="test", target_types=["category", "segmentation"])
    assert len(data) == len(_lines(toy, "test")) and len(data.classes) == NAMES
    image, (label, trimap) = data[0]
    assert image.mode == "RGB" and image.size == trimap.size and label == int(_lines(toy, "test")[0][1]) - 1


def test_trimaps_have_a_pet_a_border_around_it_and_a_background(toy: Path) -> None:
    for stem, *_ in _lines(toy, "list"):
        trimap = _trimap(toy, stem)
        image = Image.open(toy / "images" / f"{stem}.jpg")
        assert trimap.dtype == np.uint8 and trimap.shape == image.size[::-1] and min(image.size) == 72
        assert set(np.unique(trimap)) == {PET, BACKGROUND, BORDER}
        assert 0.04 < (trimap == PET).mean() < 0.6 and (trimap == BORDER).mean() < 0.25
        touching = (trimap[:, 1:] == PET) & (trimap[:, :-1] == BACKGROUND)
        assert not touching.any(), "pet and background meet without a border between them"


def test_head_boxes_lie_inside_image_and_animal(toy: Path) -> None:
    shares = []
    for stem, _, species, _ in _lines(toy, "trainval"):
        root = ElementTree.parse(toy / "annotations" / "xmls" / f"{stem}.xml").getroot()
        trimap = _trimap(toy, stem)
        assert (root.findtext("size/height"), root.findtext("size/width")) == tuple(map(str, trimap.shape))
        assert root.findtext("filename") == f"{stem}.jpg"
        assert root.findtext("object/name") == {"1": "cat", "2": "dog"}[species]
        left, top, right, bottom = (
            int(root.findtext(f"object/bndbox/{side}", "-1")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        rows, columns = np.nonzero(trimap != BACKGROUND)
        assert columns.min() <= left < right <= columns.max() and rows.min() <= top < bottom <= rows.max()
        assert (trimap[top : bottom + 1, left : right + 1] != BACKGROUND).mean() > 0.5
        shares.append((right - left) * (bottom - top) / (np.ptp(columns) * np.ptp(rows)))
    assert np.mean(shares) < 0.5, "boxes are of the head, not of the animal"


def _colours(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    pixels = image[where] // 64
    counts = np.bincount(pixels @ np.array([16, 4, 1]), minlength=64)
    return np.sqrt(counts / counts.sum())


def test_the_animal_tells_the_breed_and_the_background_does_not() -> None:
    labels = np.tile(np.arange(4), 45)
    pictures = [draw_picture(np.random.default_rng([9, i]), BREEDS[b], 56) for i, b in enumerate(labels)]
    score = {}
    for name, code in (("animal", PET), ("background", BACKGROUND)):
        features = [_colours(p.image, p.trimap == code) for p in pictures]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
        score[name] = cross_val_score(model, np.array(features), labels, cv=5).mean()
    assert score["animal"] > 0.6
    assert score["background"] < 0.25 + 0.1  # chance, and three standard deviations of it


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"breeds": 1}, "breeds=1"),
        ({"breeds": len(BREEDS) + 1}, f"2 to {len(BREEDS)} breeds"),
        ({"images": 11}, "data.images=12"),
        ({"size": 20}, "size=20"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    good = {"images": 12, "breeds": 4, "size": 64, "seed": 0}
    with pytest.raises(SegError, match=message):
        draw_toy_pets(tmp_path / "toy", **(good | wrong))
    assert not (tmp_path / "toy").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SegError, match="cannot write"):
        draw_toy_pets(tmp_path / "file", images=12, breeds=4, size=64, seed=0)

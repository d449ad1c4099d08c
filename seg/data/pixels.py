"""Labelled pixels: points and scribbles from files, or simulated from the ground truth."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from seg.data.dataset import BORDER, FOREGROUND, UNKNOWN, Dataset, Record
from seg.data.decode import decode_trimap, image_size
from seg.data.folder_layout import Names
from seg.data.layout import content_fingerprint, files_by_stem, read_text
from seg.data.prepared import Pool, PoolRows
from seg.data.read_report import ReadReport
from seg.data.tables import read_table
from seg.errors import SegError, first_line
from seg.methods.boxes import box_slices
from seg.methods.pixels import pixel_grid, simulated_points, simulated_scribbles
from seg.store import Products, Stage, param
from seg.store.parameters import MOST_SEED, content_of_file

_COLUMNS = ["file", "x", "y", "class"]
_BACKGROUND = "background"


class ListedPoint(NamedTuple):
    """A point of an image, its class, and where it is written."""

    image: str
    x: float
    y: float
    class_name: str
    where: str


def read_points(path: Path) -> list[ListedPoint]:
    """Read a CSV with the columns ``file,x,y,class``, or a JSON list of such objects; pixels count from 0.

    Raises:
        SegError: the file cannot be read or has no point, or a line or an object is something else.
    """
    found = []
    for where, row in _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path):
        if missing := [name for name in _COLUMNS if name not in row]:
            raise SegError(f"{where}: lacks {', '.join(missing)}; a point has file,x,y,class")
        try:
            x, y = float(row["x"]), float(row["y"])
        except (ValueError, TypeError) as error:
            raise SegError(f"{where}: {str(row['x'])[:40]}, {str(row['y'])[:40]} are no pixels x,y") from error
        found.append(ListedPoint(str(row["file"]), x, y, str(row["class"]), where))
    if not found:
        raise SegError(f"pixels.points={path}: has no point; leave it out, or give another file")
    return found


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    table = read_table(path)
    headings = [cell.lower() for cell in table.iloc[0]] if len(table) else []
    for line, row in zip(table.index[1:], table.iloc[1:].itertuples(index=False), strict=True):
        yield f"{path} line {line}", dict(zip(headings, row, strict=True))


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SegError(f"{path}: no JSON ({first_line(error)})") from error
    for number, one in enumerate(content if isinstance(content, list) else [content], 1):
        yield f"{path} item {number}", one if isinstance(one, dict) else {}


@dataclass(frozen=True)
class LabelledPixels:
    """Labelled pixels of ``N`` images, independent of the resolution.

    Attributes:
        first: ``int64 (N + 1,)``, the first pixel of each row of the prepared data, and the number of all.
        at: ``float64 (n, 2)``, y and x in [0, 1) as shares of height and width. codes: ``uint8 (n,)``, 0 background,
            ``1 + class``.
        boxes: by row, ``float64 (b, 4)`` x0, y0, x1, y1 as shares; pixels outside of all boxes are background.
    """

    first: np.ndarray
    at: np.ndarray
    codes: np.ndarray
    boxes: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def outside(cls, boxes: Mapping[int, np.ndarray], images: int) -> "LabelledPixels":
        """The background outside of ``boxes``, of ``images`` images."""
        return cls(np.zeros(images + 1, np.int64), np.empty((0, 2)), np.empty(0, np.uint8), boxes)

    def has(self, row: int) -> bool:
        """Whether an image has labelled pixels."""
        return row in self.boxes or bool(self.first[row] < self.first[row + 1])

    def classes(self, row: int) -> list[int]:
        """The codes of an image's pixels, ascending, without the background's."""
        return [int(c) for c in np.unique(self.codes[self.first[row] : self.first[row + 1]]) if c]

    def grid(self, row: int, size: tuple[int, int]) -> np.ndarray:
        """An image's pixels on a grid: ``uint8 (H, W)``, 255 for unknown."""
        own = slice(self.first[row], self.first[row + 1])
        points = pixel_grid(self.at[own], self.codes[own], size)
        if row in self.boxes:
            outside = points == UNKNOWN
            for inside in box_slices(self.boxes[row], size):
                outside[inside] = False
            points[outside] = 0
        return points


class PixelLabels(Stage):
    """Labelled pixels of the pool's images.

    Attributes:
        pool: the images.
        points: a CSV or JSON of points, see :func:`read_points`.
        scribbles: a folder of PNG named as their image: 0 unknown, ``1 + class``, 255 background.
        simulate: draw ``points`` or ``scribbles`` from the ground truth of trainval (an oracle).
        seed: of simulated points.
    """

    called: ClassVar[str | None] = "pixels"
    what: ClassVar[str] = "labelled pixels"

    pool: Pool
    points: str | None = param(default=None, content=content_of_file)
    scribbles: str | None = param(default=None, content=lambda stage, folder: stage.scribbles_hash)
    simulate: Literal["points", "scribbles"] | None = param(default=None)
    seed: int = param(default=0, low=0, high=MOST_SEED)

    @property
    def is_given(self) -> bool:
        """Whether pixels are given or simulated."""
        return any((self.points, self.scribbles, self.simulate))

    @property
    def kinds(self) -> str:
        """``points``, ``scribbles`` or both."""
        given = {"points": self.points, "scribbles": self.scribbles}
        return " and ".join(kind for kind, file in given.items() if file or self.simulate == kind)

    @property
    def unused_parameters(self) -> dict[str, str]:
        """The seed without a simulation."""
        return {} if self.simulate else {"seed": "nothing is drawn without pixels.simulate"}

    @property
    def is_oracle(self) -> bool:
        """Simulated pixels use the ground truth."""
        return self.simulate is not None

    @cached_property
    def scribble_files(self) -> dict[str, Path]:
        """The PNGs by stem."""
        if self.scribbles is None:
            return {}
        found = files_by_stem(Path(self.scribbles), (".png",), ReadReport())
        if not found:
            raise SegError(f"pixels.scribbles={self.scribbles}: no PNG there; give a folder with one per image")
        return found

    @property
    def scribbles_hash(self) -> str:
        """A hash of names and contents."""
        return content_fingerprint(str(self.scribbles), self.scribble_files.items())

    def upstream(self) -> dict[str, Stage]:
        """The source, too, for the names of the files."""
        return super().upstream() | {"source": self.pool.data.source}

    def check(self, store: Products) -> None:
        """Raise SegError for pixels that fit no image, before any work."""
        if not self.is_given:
            raise SegError(
                "supervision=points: give pixels.points=FILE.csv, pixels.scribbles=FOLDER, or (an oracle) "
                "pixels.simulate=points"
            )
        dataset = self.pool.data.source.dataset_if_known(store)
        if dataset is not None:
            self._given(dataset)
            if self.simulate and not any(r.has_target and r.split == "trainval" for r in dataset.records):
                raise SegError(f"pixels.simulate={self.simulate}: no trainval image has ground truth to draw from")

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Read and simulate the pixels."""
        pool: PoolRows = store.get(self.pool)
        data = pool.data
        given = self._given(store.get(self.pool.data.source))
        parts = [given.get(name, np.empty((0, 3))) for name in data.ids]  # (n, 3): y, x, code
        for row in pool.rows[data.has_target[pool.rows] & ~data.is_test[pool.rows]] if self.simulate else ():
            drawn = self._simulated(data.original_target(int(row)), data.ids[row])
            parts[row] = np.concatenate([parts[row], drawn])
        joined, first = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
        np.savez(out / "pixels.npz", first=first, at=joined[:, :2], codes=joined[:, 2].astype(np.uint8))
        return {"images": sum(len(own) > 0 for own in parts), "pixels": len(joined)}

    def load(self, path: Path, store: Products) -> LabelledPixels:
        with np.load(path / "pixels.npz") as file:
            return LabelledPixels(file["first"], file["at"], file["codes"])

    def _simulated(self, target: np.ndarray, name: str) -> np.ndarray:
        if self.simulate == "points":
            drawn = np.asarray(simulated_points(target, np.random.default_rng([self.seed, *name.encode()])))
        else:
            drawn = _listed(simulated_scribbles(target))
        return _shares(drawn, target.shape)

    def _given(self, dataset: Dataset) -> dict[str, np.ndarray]:
        """The files' pixels by image id, ``float64 (n, 3)``: y, x, code.

        Raises:
            SegError: a pixel of no image or class, or outside of its image; the message has file and line.
        """
        report = ReadReport()
        names = Names({f"{name.rpartition('.')[0]}.png": i for i, name in dataset.file_names().items()})
        records, found = {r.id: r for r in dataset.records}, dict[str, list[np.ndarray]]()
        sizes: dict[str, tuple[int, int]] = {}

        def record_of(name: str, where: str) -> Record:
            image = names.find(name)
            if image is None:
                raise SegError(f"{where}: {name[:60]!r} is no image of the data")
            if image not in sizes:
                sizes[image] = image_size(records[image].image)
            return records[image]

        for point in read_points(Path(self.points)) if self.points else []:
            with report.collecting(point.where):
                record = record_of(point.image, point.where)
                code = self._code(point.class_name, record, dataset)
                (height, width), (x, y) = sizes[record.id], point[1:3]
                if not (0 <= x < width and 0 <= y < height):
                    raise SegError(f"the point x={x:g} y={y:g} is outside of {record.image.name}, {width} x {height}")
                found.setdefault(record.id, []).append(_shares(np.array([[y, x, code]]), (height, width)))
        for stem, path in self.scribble_files.items():
            with report.collecting(str(path)):
                record = record_of(stem, str(path))
                size = sizes[record.id]
                values, _ = decode_trimap(path, size, "classes", record.image)
                drawn = _listed(np.where(values == 0, np.uint8(UNKNOWN), np.where(values == UNKNOWN, 0, values)))
                for code in np.unique(drawn[:, 2]).tolist():
                    self._code(self._name(code, dataset), record, dataset)
                if self.pool.task == "foreground":
                    drawn[:, 2] = drawn[:, 2].clip(0, 1)
                found.setdefault(record.id, []).append(_shares(drawn, size))
        report.raise_problems(Path(self.points or self.scribbles or ""))
        return {image: np.concatenate(own) for image, own in found.items()}

    def _name(self, code: int, dataset: Dataset) -> str:
        """The class of a scribble's code."""
        if code and self.pool.task == "foreground":
            return FOREGROUND
        return (_BACKGROUND, *dataset.classes)[code] if code <= len(dataset.classes) else str(code)

    def _code(self, name: str, record: Record, dataset: Dataset) -> int:
        """The mask code of a class of an image."""
        if name == _BACKGROUND:
            return 0
        own = [dataset.classes[label] for label in record.labels]
        if self.pool.task == "foreground" and name == FOREGROUND and own:
            return 1
        if name not in own:
            shown = ", ".join([*own, _BACKGROUND])
            raise SegError(f"{name[:60]!r} is no class of {record.image.name}, whose labels are {shown}; correct one")
        return 1 if self.pool.task == "foreground" else 1 + dataset.classes.index(name)


def _listed(grid: np.ndarray) -> np.ndarray:
    """The labelled pixels of ``uint8 (H, W)``: ``int64 (n, 3)``, y, x, code."""
    ys, xs = np.nonzero(grid < BORDER)
    return np.stack([ys, xs, grid[ys, xs]], 1).astype(np.int64)


def _shares(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """y, x, code, with the pixel's centre as shares of the image's sides."""
    out = pixels.astype(np.float64)
    out[:, :2] = (np.floor(out[:, :2]) + 0.5) / size
    return out

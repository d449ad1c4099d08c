"""Exports the masks of a run."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from seg.data.prepared import PreparedData
from seg.formats import MASKS, WITH_CLASSES, WITH_SCORES, Format, Picture, check_format, picture_of, write
from seg.masks import MaskSet
from seg.store import Store


def export_masks(
    folder: Path,
    masks_of: Mapping[str, MaskSet],
    store: Store,
    kind: Format | None = None,
    file_names: Mapping[str, str] | None = None,
    tolerance: float = 0.0,
    min_area: int = 0,
    photos: str = "photos",
) -> int:
    """Write every mask at its image's original size, in EXIF orientation.

    Masks with classes keep them. In masks of the foreground, the class is the image's label, or ``foreground`` if
    images do not have one label each.

    Args:
        folder: gets a folder per step. masks_of: by step. store: for its progress bar.
        kind: of the files, see :func:`seg.formats.write`; None for ``png255``, or ``palette`` where masks tell classes
            apart.
        file_names: of the images by id, which all but PNG go by. tolerance, min_area, photos: see :mod:`seg.formats`.

    Returns:
        How many masks were written.

    Raises:
        SegError: a format without room for the classes of the masks.
    """
    for name, masks in masks_of.items():
        check_format(kind, masks.data.count, tolerance, min_area)
        form: Format = kind or ("png255" if masks.data.count == 1 else "palette")
        target = folder / re.sub(r"[\W_]+", "_", name).strip("_")
        # One foreground of images of one class each: a code or a category says which class that is.
        by_label = form in WITH_CLASSES and masks.data.original is not None and masks.data.original.has_one_label
        data = masks.data.as_read if by_label else masks.data
        positions = store.runtime.bar(range(len(masks)), f"exporting {name}")
        pictures = _pictures(masks, positions, data, by_label, form, file_names or {}, min_area)
        write(form, target, data.names, pictures, tolerance, photos)
    return sum(map(len, masks_of.values()))


def _pictures(
    masks: MaskSet,
    positions: Iterable[int],
    data: PreparedData,
    by_label: bool,
    form: Format,
    file_names: Mapping[str, str],
    min_area: int,
) -> Iterator[Picture]:
    for position in positions:
        row, at = int(masks.rows[position]), np.asarray([position])
        image_id, size = data.ids[row], (int(data.sizes[row][0]), int(data.sizes[row][1]))
        codes = masks.at(at, size)[0]
        if by_label:
            codes = np.where(codes == 1, np.uint8(1 + data.labels[row]), codes)
        scores = masks.scores.argmax(at, size)[0][0] if form in WITH_SCORES else None
        file = f"{image_id}.png" if form in MASKS else file_names.get(image_id, image_id)
        if form in MASKS and not min_area:
            yield Picture(file, size, codes=codes)
        else:
            yield picture_of(file, codes, data.names, scores, min_area)

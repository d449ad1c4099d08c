"""The frames of video files, through OpenCV."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seg.errors import SegError

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")


class Frame(NamedTuple):
    """A frame of a video; ``number`` counts from 0."""

    video: Path
    number: int


def frames(video: Path) -> list[Frame]:
    """All frames of a video.

    They are counted by reading: the number in a file's header is often an estimate.

    Raises:
        SegError: OpenCV is missing, or it finds no frame.
    """
    capture, count = _opened(video), 0
    while capture.grab():
        count += 1
    if not count:
        raise SegError(f"{video}: OpenCV finds no frame in it; convert it to MP4 (H.264)")
    return [Frame(video, number) for number in range(count)]


def read(images: Iterable[Path | Frame]) -> Iterator[Path | np.ndarray]:
    """The same images, frames as ``uint8 (H, W, 3)`` RGB, upright; those of one video come in ascending order.

    Raises:
        SegError: a frame that cannot be decoded.
    """
    capture: Any = None
    position = Frame(Path(), 0)  # the next that the capture reads
    for image in images:
        if not isinstance(image, Frame):
            yield image
            continue
        if position.video != image.video:
            capture, position = _opened(image.video), Frame(image.video, 0)
        while capture.grab() and position.number < image.number:
            position = position._replace(number=position.number + 1)
        position = image._replace(number=image.number + 1)
        ok, pixels = capture.retrieve()
        if not ok:
            raise SegError(f"{image.video}: frame {image.number} cannot be decoded; convert the video again")
        yield np.ascontiguousarray(pixels[..., ::-1])


def _opened(video: Path) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise SegError(f"{video}: a video needs OpenCV; pip install 'weakseg[grabcut]'") from error
    return cv2.VideoCapture(str(video))

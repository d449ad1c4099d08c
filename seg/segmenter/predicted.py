"""Predictions of a segmenter as score maps."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.data.decode import decode_image
from seg.data.prepared import Pool, PoolRows
from seg.errors import SegError
from seg.nets.augment import normalise
from seg.segmenter.segmenter import Segmenter
from seg.store import Products, Runtime, param
from seg.supervision.scores import ScoreStage, infer
from seg.train import NetworkStage


def logits(
    model: nn.Module,
    images: Tensor,
    side: int,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    aspect: bool = False,
) -> Tensor:
    """Logits of a segmenter, averaged over scales and mirroring: ``float (B, K, side, side)``.

    Args:
        model: in ``eval`` mode. images: ``float32 (B, 3, H, W)``, normalised. side: of the network's input, in pixels.
        scales: multiples of ``side``, rounded to 32. flip: average with the mirrored image.
        aspect: keep the size of the images as input, and resize only the logits to a square.
    """
    size = images.shape[2:] if aspect else (side, side)
    parts = []
    for scale in scales:
        wanted = [s if scale == 1 else max(32, round(s * scale / 32) * 32) for s in size]
        fits = wanted == [*images.shape[2:]]
        resized = images if fits else F.interpolate(images, wanted, mode="bilinear", antialias=True)
        found = model(resized)
        if flip:
            found = (found + model(resized.flip(3)).flip(3)) / 2
        fits = [*found.shape[2:]] == [side, side]
        parts.append(found if fits else F.interpolate(found, (side, side), mode="bilinear"))
    return sum(parts[1:], start=parts[0]) / len(parts)


def class_maps(logits: Tensor, least: float = 0.1) -> tuple[Tensor, list[int]]:
    """The score maps of one image, largest for the most likely class of a pixel.

    With one output the score is the foreground's probability ``p``. Else, with ``b`` the background and ``c`` the most
    likely class, a class ``k`` scores ``p_c / (p_b + p_c) * p_k / p_c``: at least 1/2 for ``c`` where ``p_c >= p_b``.

    Args:
        logits: ``float (K, H, W)``; the foreground's for K = 1, else background first.
        least: classes are left out that are nowhere most likely with at least this score.

    Returns:
        ``float16 (k, H, W)`` in [0, 1], and the codes of the classes, at least one.
    """
    if len(logits) == 1:
        return logits.sigmoid().half(), [1]
    best, code = logits[1:].max(0)
    score = (best - logits[0]).sigmoid()
    ids = code[score >= least].unique()
    ids = ids if len(ids) else code.flatten()[score.argmax()][None]
    return (score * (logits[1:][ids] - best).exp()).half(), (ids + 1).tolist()


@torch.inference_mode()
def _infer_files(
    compute: Callable[[Tensor, np.ndarray], Tensor], files: Sequence[Path], side: int, runtime: Runtime, what: str
) -> Iterator[np.ndarray]:
    """:func:`infer` for images at their aspect ratio, one at a time, with ``side`` as the longer side."""
    decode = partial(decode_image, size=side, aspect=True)
    with ThreadPoolExecutor(runtime.worker_count) as threads:
        for start in runtime.bar(range(0, len(files), runtime.batch_size), what):
            for i, (image, _) in enumerate(threads.map(decode, files[start : start + runtime.batch_size]), start):
                images = normalise(torch.from_numpy(image[None]).to(runtime.device))
                yield compute(images, np.asarray([i])).cpu().numpy()


class Predicted(ScoreStage):
    """Predictions for every image of the pool: a score map for each class that is predicted.

    Attributes:
        pool: the images. segmenter: the network, trained or pretrained.
        scales, flip: logits are averaged over these multiples of the input's side, and over mirrored images.
    """

    what: ClassVar[str] = "prediction"

    pool: Pool
    segmenter: NetworkStage
    scales: tuple[float, ...] = param(default=(1.0,), above=0, high=4)
    flip: bool = param(default=False)

    @property
    def design(self) -> Segmenter:
        return self.segmenter.designed_as(Segmenter, "segmenter")

    def validate(self) -> None:
        if not self.scales:
            raise SegError("prediction.scales=[]: must not be empty; [1.0] is the input's size alone")
        _ = self.design

    @property
    def title(self) -> str:
        return f"{type(self.design.net).__name__} prediction"

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """One forward pass per image, scale and direction, at the size of the training."""
        pool: PoolRows = store.get(self.pool)
        model: nn.Module = store.get(self.segmenter).to(memory_format=torch.channels_last)
        side, aspect = self.design.input_size or pool.data.side, self.design.crop is not None
        class_ids: list[list[int]] = []

        def maps(images: Tensor, _: np.ndarray) -> Tensor:
            answer = logits(model, images, side, self.scales, self.flip, aspect)
            made, ids = zip(*map(class_maps, answer), strict=True)
            class_ids.extend(ids)
            if (found := torch.cat(made)).isnan().any():  # which means unknown in scores
                raise SegError(
                    f"{self.segmenter.what} of {type(self.design.net).__name__}: predicts NaN, its training has "
                    "diverged; lower segmenter.lr, take an earlier segmenter.epoch, or give other weights"
                )
            return found

        if aspect:
            by_id = self.pool.files(store)
            files = [by_id[pool.data.ids[row]] for row in pool.rows]
            parts = _infer_files(maps, files, side, store.runtime, self.what)
        else:
            parts = infer(maps, pool.data, pool.rows, store.runtime, self.what)
        return self.save(out, pool.data, pool.rows, parts, class_ids)

"""Test images where no list names them: drawn by a hash of their names, so that a photo more changes little."""

import hashlib
from collections import Counter
from collections.abc import Mapping


def draw_by_labels(labels: Mapping[str, tuple[int, ...]], share: float, seed: int) -> set[str]:
    """Choose a share of images that may have several classes or none, and never the last trainval image of a class.

    Args:
        labels: the classes of each image by its name. share: in [0, 1). seed: another one, another choice.

    Returns:
        The names chosen: ``round(share * n)`` of all, fewer where the rest are the last of their classes.
    """
    left = Counter(label for own in labels.values() for label in own)
    chosen: set[str] = set()
    for name in sorted(labels, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest()):
        if len(chosen) == min(round(share * len(labels)), len(labels) - 1):
            break
        if all(left[label] > 1 for label in labels[name]):
            chosen.add(name)
            left.subtract(labels[name])
    return chosen

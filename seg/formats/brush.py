"""Label Studio's brush strokes: RLE of an RGBA image's bytes, in the format of the package @thi.ng/rle-pack."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: The possible numbers of bits of a run's length.
_SIZES = (3, 4, 8, 16)


def encode(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Encode a mask ``bool (H, W)``: all four channels are 255 in the mask and 0 elsewhere."""
    flat = mask.ravel().astype(np.int8)
    changes = np.flatnonzero(np.diff(flat))
    starts = np.concatenate([[0], changes + 1])
    bits = [f"{4 * flat.size:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(starts.tolist(), np.diff(starts, append=flat.size).tolist(), strict=True):
        value = f"{255 * int(flat[start]):08b}"
        for begun in range(0, 4 * length, 1 << _SIZES[-1]):
            rest = min(4 * length - begun, 1 << _SIZES[-1]) - 1
            which = next(i for i, size in enumerate(_SIZES) if rest >> size == 0)
            bits.append(f"1{which:02b}{rest:0{_SIZES[which]}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8))


def decode(code: Sequence[int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Decode a mask ``bool (H, W)``: the pixels whose alpha, the last channel, is not 0.

    Raises:
        ValueError: the bytes end too early, or are of another size.
    """
    text, at = "".join(f"{byte:08b}" for byte in bytes(code)), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(text[at - count : at], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"its RLE is of {total // 4} pixels, and its image has {size[1]} x {size[0]}")
    values: npt.NDArray[np.uint8] = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        is_run, count = read(1), read(sizes[read(2)]) + 1
        values[done : done + count] = read(word) if is_run else [read(word) for _ in range(count)]
        done += count
    return values.reshape(*size, 4)[..., 3] > 0

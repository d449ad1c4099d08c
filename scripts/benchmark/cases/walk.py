"""The random walk against the dense transition matrix, and against SciPy's sparse one."""

import json
from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from benchmark.lab import Lab
from benchmark.measure import Sample, interleaved
from benchmark.rows import Goal, Row
from seg.methods.walk import chebyshev_coefficients, pair_offsets, random_walk

BETA, LOG_STEPS, RADIUS = 8.0, 8, 5.0
_OFFSETS = pair_offsets(RADIUS)


def run(lab: Lab) -> Iterator[Row]:
    """One image with 2 score maps and affinities drawn at random, as the paper walks: radius 5, 256 steps."""
    for side in lab.sizes.grids:
        yield from _speed(lab, side)
    for side in lab.sizes.memory_grids:
        before, peak = json.loads(lab.call("benchmark.peak", "walk", str(side)).splitlines()[-1])
        yield Row(
            f"random walk, {side} x {side}, memory",
            Sample((peak - before,), "MB"),
            goal=Goal("value", 300),
            note=f"peak of a process of its own, less the {before:.0f} MB that Python and PyTorch take before; "
            f"{peak:.0f} MB with them. One dense matrix would take {side**4 * 4 / 1e6:.0f} MB, squaring needs two",
        )


def _speed(lab: Lab, side: int) -> Iterator[Row]:
    affinity, scores = random_case(side)
    what, repeats, megabytes = f"random walk, {side} x {side}", lab.sizes.quick_repeats, side**4 * 4 / 1e6

    def ours() -> Tensor:
        return our_walk(affinity, scores)

    def dense() -> Tensor:
        return dense_walk(affinity, scores)

    def csr() -> Tensor:
        return csr_walk(affinity, scores)

    def difference(other: Tensor) -> str:
        return f"largest difference {(ours() - other).abs().max():.1e}"

    if side <= lab.sizes.dense_up_to:
        last: list[Tensor] = []
        slow = interleaved([ours, lambda: last.append(dense())], min(3, lab.sizes.repeats), 1)[1]
        yield Row(
            what,
            interleaved([ours], repeats)[0],
            f"dense matrix, squared {LOG_STEPS} times, float32",
            slow,
            Goal("speed", 150) if side == 56 else None,
            note=f"building counted on both sides; the matrix takes {megabytes:.0f} MB; {difference(last[-1])}",
        )
    else:
        lab.say(f"  the dense {side} x {side} is left out: {megabytes:.0f} MB a matrix, minutes")
    fast, slow = interleaved([ours, csr], repeats)
    note = f"float32, one thread, its building counted; {difference(csr())}"
    yield Row(what, fast, "SciPy CSR, the same Chebyshev polynomial", slow, note=note)


def our_walk(affinity: Tensor, scores: Tensor) -> Tensor:
    """Ours."""
    return random_walk(affinity, scores, offsets=_OFFSETS, beta=BETA, steps=2**LOG_STEPS)


def random_case(side: int) -> tuple[Tensor, Tensor]:
    """Affinities ``(1, 34, side, side)`` and scores ``(1, 2, side, side)``, always the same."""
    generator = torch.Generator().manual_seed(side)
    affinity = torch.rand(1, len(_OFFSETS), side, side, generator=generator)
    return affinity, torch.rand(1, 2, side, side, generator=generator)


def pairs(affinity: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both ends ``int64 (m,)`` of every pair on the grid, each pair once, and its ``float32 affinity^beta``."""
    height, width = affinity.shape[2:]
    index = np.arange(height * width).reshape(height, width)
    ends, partners, values = [], [], []
    for p, (dy, dx) in enumerate(_OFFSETS):
        rows, cols = slice(0, max(0, height - dy)), slice(max(0, -dx), max(0, width - max(0, dx)))
        here = index[rows, cols]
        ends.append(here.ravel())
        partners.append(here.ravel() + dy * width + dx)
        values.append(affinity[0, p].numpy()[rows, cols].ravel())
    return np.concatenate(ends), np.concatenate(partners), np.concatenate(values) ** np.float32(BETA)


def dense_walk(affinity: Tensor, scores: Tensor) -> Tensor:
    """As the authors' code does it: the n x n matrix, its rows scaled to sum 1, squared ``LOG_STEPS`` times."""
    ends, partners, values = map(torch.from_numpy, pairs(affinity))
    n = scores[0, 0].numel()
    matrix = torch.eye(n)
    matrix[ends, partners] = values
    matrix[partners, ends] = values
    matrix /= matrix.sum(1, keepdim=True)
    for _ in range(LOG_STEPS):
        matrix = matrix @ matrix
    return (matrix @ scores[0].flatten(1).T).T.reshape(scores.shape)


def csr_walk(affinity: Tensor, scores: Tensor) -> Tensor:
    """The same walk with SciPy's sparse matrix and the polynomial that ours uses."""
    ends, partners, values = pairs(affinity)
    n = scores[0, 0].numel()
    half = sparse.coo_array((values, (ends, partners)), (n, n))
    matrix = (half + half.T + sparse.eye_array(n, dtype=np.float32)).tocsr()
    root = np.sqrt(matrix.sum(1)).astype(np.float32)
    scale = sparse.diags_array(1 / root, dtype=np.float32)
    matrix = (scale @ matrix @ scale).tocsr()
    older = scores[0].flatten(1).numpy().T * root[:, None]
    newer = matrix @ older
    coefficients = chebyshev_coefficients(2**LOG_STEPS)
    total = coefficients[0] * older + coefficients[1] * newer
    for c in coefficients[2:]:
        older, newer = newer, 2 * (matrix @ newer) - older
        total += np.float32(c) * newer
    return torch.from_numpy((total / root[:, None]).T.copy()).reshape(scores.shape)

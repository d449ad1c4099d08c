"""AffinityNet (Ahn and Kwak, CVPR 2018): the semantic affinity of nearby positions in an image.

Features of several levels of a classification backbone are mixed by 1x1 convolutions on one grid; the affinity
of a pair is ``exp(-mean |f_i - f_j|)`` (eq. 1). Its labels come from confident seeds (eq. 3 to 6).
"""

from collections.abc import Iterator, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg.errors import SegError
from seg.methods.walk import Offsets, pair_offsets
from seg.nets.backbones import Backbone

IGNORE = 255
_TINY = 1e-5  # keeps the logarithms finite, as in the authors' code


class Pyramid(nn.Module):
    """Levels of a classification backbone with fixed batch-norm statistics, and the pairs of the random walk.

    Args:
        backbone: a classifier of torchvision or timm with its weights; it is used without a copy, and everything after
            the coarsest level is removed.
        strides: of the levels; the level of a stride is the last block before the next downsampling, and that of
            stride 1 the image itself.
        radius: of the walk's pairs in grid positions, see ``pair_offsets``.
        train_backbone: whether the backbone is trained too.

    Raises:
        SegError: the backbone has no level of one of the strides.
    """

    def __init__(
        self, backbone: nn.Module, strides: Sequence[int], radius: float, train_backbone: bool = False
    ) -> None:
        super().__init__()
        self.offsets: Offsets = pair_offsets(radius)
        self.train_backbone = train_backbone
        self.backbone = backbone if isinstance(backbone, Backbone) else Backbone(backbone)
        levels = self.backbone.levels
        if not strides or not levels.keys() >= set(strides):
            raise SegError(
                f"AffinityNet wants levels of stride {list(strides)}, "
                f"but {self.backbone.kind} has {sorted(levels)} before its pooling"
            )
        self.taps = [levels[stride].module for stride in strides]
        self.widths = [levels[stride].channels for stride in strides]
        self.backbone.cut(levels[max(strides)].module).requires_grad_(train_backbone)

    def train(self, mode: bool = True) -> Self:
        """Keeps the backbone in evaluation mode, because batches are too small to estimate its statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def levels(self, images: Tensor) -> list[Tensor]:
        """Feature maps (B, c, S / stride, S / stride) of the strides asked for, of images (B, 3, S, S)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.train_backbone):
            return self.backbone.maps(images, self.taps)


class AffinityNet(Pyramid):
    """Affinities of every position with its neighbours, on a grid of a quarter of the input.

    Args:
        backbone, strides, radius, train_backbone: see :class:`Pyramid`.
        channels: width of each level's 1x1 convolution and of the embedding.
        train_radius: of the pairs that are drawn for training; it should span the ignored band between background and
            foreground seeds. (The paper trains on the walk's pairs.)

    Examples:
        >>> from torchvision.models import resnet18
        >>> net = AffinityNet(resnet18(weights=None)).eval()
        >>> net(torch.rand(1, 3, 64, 64)).shape  # to the 34 neighbours closer than 5
        torch.Size([1, 34, 16, 16])
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        strides: Sequence[int] = (4, 8, 16),
        channels: int = 32,
        radius: float = 5.0,
        train_radius: float = 12.0,
        train_backbone: bool = False,
    ) -> None:
        super().__init__(backbone, strides, radius, train_backbone)
        self.train_offsets: Offsets = pair_offsets(train_radius)
        # Levels and channels differ in scale by orders of magnitude: scale each to unit variance.
        self.norm = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for width in self.widths)
        self.reduce = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in self.widths)
        self.mix = nn.Conv2d(channels * len(strides), channels, 1)
        for conv in (*self.reduce, self.mix):
            nn.init.kaiming_normal_(conv.weight)
            nn.init.zeros_(conv.bias)
        self.train()

    def embed(self, images: Tensor) -> Tensor:
        """Embedding float (B, channels, S / 4, S / 4) of normalised images (B, 3, S, S)."""
        grid = (-(-images.shape[-2] // 4), -(-images.shape[-1] // 4))
        layers = zip(self.levels(images), self.norm, self.reduce, strict=True)
        parts = [_to_grid(reduce(_at_most(norm(level), grid)), grid) for level, norm, reduce in layers]
        mixed: Tensor = self.mix(F.relu(torch.cat(parts, dim=1)))
        # In half precision 1 + _TINY is 1, and the loss of an affinity of 1 would be infinite.
        return mixed.float()

    def draw_offsets(self, count: int = 8, generator: torch.Generator | None = None) -> Offsets:
        """``count`` random offsets of training pairs; a step with all of them takes 27 times as long."""
        drawn = torch.randperm(len(self.train_offsets), generator=generator)[:count]
        return [self.train_offsets[i] for i in drawn.tolist()]

    def forward(self, images: Tensor, offsets: Offsets | None = None) -> Tensor:
        """Affinities float (B, P, S / 4, S / 4) in (0, 1] of normalised images (B, 3, S, S).

        ``[b, p, y, x]`` is that of ``(y, x)`` and ``(y, x) + offsets[p]``, by default with the walk's
        ``self.offsets``; undefined if the second position is outside of the grid.
        """
        return pair_affinity(self.embed(images), self.offsets if offsets is None else offsets)


class FrozenAffinityNet(Pyramid):
    """Affinities of a backbone's features without training, a baseline for AffinityNet.

    The affinity is the mean over levels of the cosine similarity of two positions' features, after subtracting the
    image's mean feature; negative values are 0.

    Args: as for :class:`Pyramid`.

    Examples:
        >>> from torchvision.models import resnet18
        >>> net = FrozenAffinityNet(resnet18(weights=None), strides=(4, 8), radius=2)
        >>> net(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 4, 8, 8])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Affinities float (B, P, S / 4, S / 4) in [0, 1], as :meth:`AffinityNet.forward` gives them."""
        grid = (-(-images.shape[-2] // 4), -(-images.shape[-1] // 4))
        total = images.new_zeros(())
        for level in self.levels(images):
            level = _to_grid(_at_most(level.float(), grid), grid)
            level = F.normalize(level - level.mean((2, 3), keepdim=True), dim=1)
            total = total + torch.stack([(x * level).sum(1) for x in neighbours(level, self.offsets, 0.0)], 1)
        return (total / len(self.taps)).clamp(0, 1)


def _at_most(level: Tensor, grid: tuple[int, int]) -> Tensor:
    # The mean over each cell.
    return F.adaptive_avg_pool2d(level, grid) if level.shape[-1] > grid[1] else level


def _to_grid(level: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.interpolate(level, size=grid, mode="bilinear", align_corners=False)


def neighbours(x: Tensor, offsets: Offsets, fill: float) -> Iterator[Tensor]:
    """For each offset, ``x`` (..., h, w) moved so that ``[y, x]`` holds the value at ``(y, x) + offset``."""
    height, width = x.shape[-2:]
    reach = max(max(dy, abs(dx)) for dy, dx in offsets)
    padded = F.pad(x, (reach, reach, 0, reach), value=fill)
    for dy, dx in offsets:
        yield padded[..., dy : dy + height, reach + dx : reach + dx + width]


def pair_affinity(embedding: Tensor, offsets: Offsets) -> Tensor:
    """``exp(-mean_c |f_i - f_j|)`` (eq. 1): float (B, K, h, w) to float (B, P, h, w) in (0, 1].

    Examples:
        >>> pair_affinity(torch.tensor([[[[0.0, 0.0, 1.0]]]]), [(0, 1)])[0, 0, 0, :2]
        tensor([1.0000, 0.3679])
    """
    distances = [(there - embedding).abs().mean(dim=1) for there in neighbours(embedding, offsets, 0.0)]
    return torch.exp(-torch.stack(distances, dim=1))


def pair_labels(seeds: Tensor, offsets: Offsets) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of one class, of background, and of different classes (eq. 3 and 4).

    Args:
        seeds: integer (B, h, w): 0 background, 1 foreground or 1 and on the classes, 255 ignored.
        offsets: the P offsets of ``pair_offsets``.

    Returns:
        Three bool (B, P, h, w), all False for a pair with an ignored end or an end outside of the grid.

    Examples:
        >>> foreground, background, mixed = pair_labels(torch.tensor([[[0, 0, 1, 255]]]), [(0, 1)])
        >>> mixed.int().tolist()
        [[[[0, 1, 0, 0]]]]
    """
    there = torch.stack(list(neighbours(seeds, offsets, IGNORE)), dim=1)
    here = seeds[:, None]
    foreground = (here == there) & (here != 0) & (here != IGNORE)
    background = (here == 0) & (there == 0)
    return foreground, background, (here != there) & (here != IGNORE) & (there != IGNORE)


def affinity_loss(affinity: Tensor, seeds: Tensor, offsets: Offsets) -> Tensor:
    """Cross-entropy of pairs, weighted 1/4 for foreground, 1/4 for background, 1/2 for mixed pairs (eq. 5 and 6).

    Args:
        affinity: float (B, P, h, w) in (0, 1], from ``AffinityNet``.
        seeds: integer (B, h, w) on the same grid: 0 background, 1 foreground or 1 and on the classes, 255 ignored.
        offsets: the P offsets of the affinities.

    Returns:
        Scalar >= 0. Each kind is averaged over its pairs in the batch; a kind without pairs is 0.

    Raises:
        SegError: seeds and affinities are not on one grid.

    Examples:
        >>> seeds = torch.tensor([[[0, 0, 1, 255]]])
        >>> affinity = torch.tensor([[[[1.0, 0.0, 0.5, 0.5]]]])  # right where it counts
        >>> affinity_loss(affinity, seeds, [(0, 1)]).abs().item() < 1e-4
        True
    """
    if affinity.shape != (seeds.shape[0], len(offsets), *seeds.shape[1:]):
        raise SegError(
            f"affinities {tuple(affinity.shape)} do not fit seeds {tuple(seeds.shape)} and "
            f"{len(offsets)} offsets: bring the seeds to the affinities' grid"
        )
    foreground, background, mixed = pair_labels(seeds, offsets)
    same = -torch.log(affinity + _TINY)
    different = -torch.log(1 + _TINY - affinity)
    return (_mean_over(same, foreground) + _mean_over(same, background) + 2 * _mean_over(different, mixed)) / 4


def _mean_over(loss: Tensor, pairs: Tensor) -> Tensor:
    return torch.where(pairs, loss, 0).sum() / pairs.sum().clamp_min(1)

"""AffinityNet (Ahn and Kwak, CVPR 2018): are two nearby positions of an image of the same kind?

Features of several levels of a classification backbone, mixed by 1x1 convolutions on one grid; the affinity
of a pair is ``exp(-mean |f_i - f_j|)`` (eq. 1). The labels come from confident seeds alone (eq. 3 to 6).
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg.errors import SegError
from seg.refiner.walk import Offsets, pair_offsets

IGNORE = 255


def backbone_blocks(model: nn.Module) -> nn.ModuleList:
    """The blocks of a torchvision classifier up to its global pooling, in the order in which they run.

    Sequential containers are taken apart, blocks are shared with ``model``. Works for the models that are a
    plain chain: ResNet and its relatives, MobileNet, EfficientNet, ConvNeXt, RegNet, VGG.
    """

    def chain(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if type(child) is nn.Sequential:
                yield from chain(child)
            else:
                yield child

    blocks = nn.ModuleList()
    for block in chain(model):
        if isinstance(block, (nn.AdaptiveAvgPool2d, nn.Linear)):
            break
        blocks.append(block)
    return blocks


class AffinityNet(nn.Module):
    """Affinities of every position with its neighbours, on a grid of a quarter of the input.

    Args:
        backbone: a torchvision classifier that already holds its weights; its blocks are used, not copied.
        strides: the levels to use; a level is the last block before the next downsampling.
        channels: width of each level's 1x1 convolution and of the embedding.
        radius: reach of the pairs in grid positions, see ``pair_offsets``.
        train_backbone: whether gradients reach the backbone; its batch-norm statistics stay fixed anyway.

    Raises:
        SegError: the backbone is not a chain of blocks, or has no level at one of the strides.
    """

    scale: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        channels: int = 64,
        radius: float = 5.0,
        train_backbone: bool = False,
    ) -> None:
        super().__init__()
        self.offsets: Offsets = pair_offsets(radius)
        self.strides = tuple(strides)
        self.train_backbone = train_backbone
        self.blocks = backbone_blocks(backbone)

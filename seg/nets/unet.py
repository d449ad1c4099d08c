"""U-Nets: a plain one, and one whose encoder is a torchvision backbone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError
from seg.nets.backbones import backbone_blocks, levels_by_stride


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch norm and ReLU; the size stays."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """The U-Net of Ronneberger et al. (MICCAI 2015), with batch norm and padded convolutions.

    ``float (B, 3, H, W)`` normalised images to ``float (B, outputs, H, W)`` logits; H and W are any size of at
    least ``2 ** depth``.

    Args:
        width: channels of the first level, doubled at every further one.
        depth: how often the resolution is halved.
        outputs: 1, the foreground; or the background and each class.
    """

    def __init__(self, width: int = 16, depth: int = 4, outputs: int = 1) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(ConvBlock(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(ConvBlock(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        skips: list[Tensor] = []
        x = images
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        x = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            skip = skips.pop()
            x = merge(torch.cat([skip, _fit(up(x), skip)], 1))
        return self.head(x)


class EncoderUNet(nn.Module):
    """A U-Net over the levels of a torchvision classifier: bilinear upsampling, skips, 3 x 3 convolutions.

    ``float (B, 3, H, W)`` normalised images to ``float (B, outputs, H, W)`` logits. The logits are computed at
    half the input's resolution and upsampled.

    Args:
        backbone: the classifier, with its weights; its blocks are used, not copied.
        width: channels of the decoder's finest level; coarser ones have more, up to eight times.
        outputs: 1, the foreground; or the background and each class.

    Raises:
        SegError: the backbone is no chain of blocks that halves its input five times.
    """

    def __init__(self, backbone: nn.Module, width: int = 32, outputs: int = 1) -> None:
        super().__init__()
        self.encoder = backbone_blocks(backbone)
        last, channels = levels_by_stride(self.encoder)
        self.encoder.train()
        if not last.keys() >= {2, 4, 8, 16, 32}:
            raise SegError(f"{type(backbone).__name__} has levels of stride {sorted(last)}, not 2, 4, 8, 16, 32")
        self.taps = [last[s] - 1 for s in (2, 4, 8, 16, 32)]
        skips = [channels[s] for s in (16, 8, 4, 2)]
        widths = [8 * width, 4 * width, 2 * width, width]
        inputs = [channels[32], *widths]
        self.merge = nn.ModuleList(ConvBlock(i + s, w) for i, s, w in zip(inputs, skips, widths, strict=False))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        levels, x = [], images
        for i, block in enumerate(self.encoder):
            x = block(x)
            if i in self.taps:
                levels.append(x)
        x = levels.pop()
        for merge in self.merge:
            skip = levels.pop()
            x = merge(torch.cat([F.interpolate(x, skip.shape[2:], mode="bilinear"), skip], 1))
        return F.interpolate(self.head(x), images.shape[2:], mode="bilinear")


def _fit(x: Tensor, like: Tensor) -> Tensor:
    """Odd sizes lose a row or column when halved; stretch it back."""
    # An export for any size can't decide by the size that it sees; stretching to the same size changes nothing.
    fits = not torch.compiler.is_compiling() and x.shape[2:] == like.shape[2:]
    return x if fits else F.interpolate(x, like.shape[2:], mode="bilinear")

"""U-Nets: a plain one, and one with a backbone as encoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.nets.backbones import Backbone


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions with batch norm and ReLU; the size is kept."""

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
        width: channels of the first level, doubled at each further one.
        depth: number of times the resolution is halved.
        outputs: 1 for the foreground; or 1 + number of classes.
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
    """A U-Net on the levels of a backbone: bilinear upsampling, skip connections, 3 x 3 convolutions.

    ``float (B, 3, H, W)`` normalised images to ``float (B, outputs, H, W)`` logits, computed at the resolution of the
    finest level and upsampled.

    Args:
        backbone: with its weights; used without a copy, and its head is removed.
        width: channels of the decoder at stride 2; up to eight times as many at coarser strides.
        outputs: 1 for the foreground; or 1 + number of classes.
    """

    def __init__(self, backbone: Backbone, width: int = 32, outputs: int = 1) -> None:
        super().__init__()
        self.strides = sorted((stride for stride in backbone.levels if stride >= 2), reverse=True)
        levels = [backbone.levels[stride] for stride in self.strides]
        self.encoder = backbone.cut(levels[0].module)
        self.taps = [level.module for level in levels]
        widths = [min(stride // 2, 8) * width for stride in self.strides[1:]]
        inputs = [levels[0].channels, *widths]
        skips = [level.channels for level in levels[1:]]
        self.merge = nn.ModuleList(ConvBlock(i + s, w) for i, s, w in zip(inputs, skips, widths, strict=False))
        self.head = nn.Conv2d(inputs[-1], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        levels = self.encoder.maps(images, self.taps)
        if self.encoder.is_plain:  # its levels have one grid
            sizes = [[-(-side // stride) for side in images.shape[2:]] for stride in self.strides]
            levels = [F.interpolate(x, size, mode="bilinear") for x, size in zip(levels, sizes, strict=True)]
        x = levels[0]
        for merge, skip in zip(self.merge, levels[1:], strict=True):
            x = merge(torch.cat([F.interpolate(x, skip.shape[2:], mode="bilinear"), skip], 1))
        return F.interpolate(self.head(x), images.shape[2:], mode="bilinear")


def _fit(x: Tensor, like: Tensor) -> Tensor:
    """Resize ``x`` to the size of ``like``: odd sizes lose a row or column when they are halved."""
    # An export for any size must not depend on this one; resizing to the same size changes nothing.
    fits = not torch.compiler.is_compiling() and x.shape[2:] == like.shape[2:]
    return x if fits else F.interpolate(x, like.shape[2:], mode="bilinear")

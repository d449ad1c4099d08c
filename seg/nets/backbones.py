"""Backbones: the classifiers of torchvision and timm as feature levels, a last map, and one linear layer."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError
from seg.nets.augment import MEAN, STD
from seg.nets.pretrained import create, load_weights

_SIDE = 64  # side in pixels of the image on which a network is traced


class Level(NamedTuple):
    """A feature level: name of the module that puts it out ("" for the image itself), and number of channels."""

    module: str
    channels: int


class Backbone(nn.Module):
    """A classifier: ``float (B, 3, H, W)`` images, normalised as ImageNet's, to logits ``(B, classes)``.

    Between the last map and the logits are pooling, dropout and one linear layer, so that the CAM has its closed form
    (Zhou et al., CVPR 2016, eq. 2). Other parts of the provider's head (hidden layers, a class token) are not used; a
    norm in the head is applied before the pooling. Images are brought to the network's own normalisation and size.

    A convolutional network runs as a chain of its blocks, any other through timm's ``forward_intermediates``, with its
    patch tokens as a map. A plain vision transformer has a single grid: the ends of the four quarters of its blocks
    serve as levels of stride 4, 8, 16 and 32. The state dict has the provider's names.

    Args:
        model: the provider's classifier; its modules are used, not copied.

    Raises:
        SegError: it is not a sequence of feature maps and has no ``forward_intermediates``.

    Attributes:
        kind: name of the model's class. head: dotted name of the linear layer.
        outputs: channels and stride of the output of each block, by the block's name.
        is_chain: whether each block runs on the output of the one before. is_plain: whether it is a plain transformer.
        stages: names of the blocks that end them. norms: names of the norms before the pooling.
        adapt: brings images to the normalisation and size of the network.
    """

    # Its own attributes, such as `stages`, may have the names of parts of the model, which are set in the model itself.
    __setattr__ = object.__setattr__  # type: ignore[assignment]

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        config: dict[str, Any] = getattr(model, "pretrained_cfg", {})  # timm's
        head = config.get("classifier") or ["fc", *(n for n, m in model.named_modules() if type(m) is nn.Linear)][-1]
        self.kind, self.head = type(model).__name__, head if isinstance(head, str) else head[0]
        self.dropout = next((m.p for m in reversed(list(model.modules())) if type(m) is nn.Dropout), 0.0)
        # The model is no submodule: its parts are registered here under their own names.
        self.model: Any = model
        self._modules, self._parameters, self._buffers = model._modules, model._parameters, model._buffers
        self._non_persistent_buffers_set = model._non_persistent_buffers_set
        fixed, multiple, self.is_plain = config.get("fixed_input_size", False), 1, False
        self.outputs = _chain(model)
        self.is_chain = bool(self.outputs)
        if self.is_chain:
            multiple, fixed = (self.stride if fixed else 1), False
        elif hasattr(model, "forward_intermediates"):
            info: list[dict[str, Any]] = list(self.model.feature_info)  # type: ignore[arg-type]
            multiple, fixed = info[-1]["reduction"], fixed and not getattr(model, "dynamic_img_size", False)
            self.is_plain = len(info) >= 4 and info[0]["reduction"] == multiple
            for i, level in enumerate(info):
                stride = 4 << 4 * i // len(info) if self.is_plain else level["reduction"]
                self.outputs[level["module"]] = level["num_chs"], stride
        else:
            raise SegError(f"{self.kind} is not a sequence of feature maps; use one of this kind from timm, timm/NAME")
        norms = ("fc_norm", "head.norm") if self.is_chain else ("norm", "fc_norm", "head.norm")
        self.norms = [n for n, m in model.named_modules() if n in norms and not isinstance(m, nn.Identity)]
        # Training with several processes requires a gradient for each parameter.
        used = {name.partition(".")[0] for name in self.outputs}
        for name, child in model.named_children():
            if name not in used if self.is_chain else name in ("head", "head_dist", "attn_pool"):
                child.requires_grad_(False)
        for norm in self.norms:
            model.get_submodule(norm).requires_grad_(True)
        self.stages = [level.module for stride, level in self.levels.items() if stride >= 4]
        mean, std = config.get("mean", MEAN), config.get("std", STD)
        self.adapt = InputAdapter(mean, std, multiple, list(config["input_size"][1:]) if fixed else None)

    @property
    def levels(self) -> dict[int, Level]:
        """By stride: the last block before the next downsampling; at stride 1 the image itself."""
        return {1: Level("", 3)} | {stride: Level(name, channels) for name, (channels, stride) in self.outputs.items()}

    @property
    def stride(self) -> int:
        """Of the last map."""
        return self.adapt.multiple if self.is_plain else max(self.levels)

    @property
    def channels(self) -> int:
        """Of the last map."""
        return self.levels[max(self.levels)].channels

    @property
    def linear(self) -> nn.Module:
        """The head."""
        return self.model.get_submodule(self.head)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.model.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, or of ``float (B, channels)``, the means of :meth:`features` over each image."""
        pooled = images if images.ndim == 2 else F.adaptive_avg_pool2d(self.features(images), 1).flatten(1)
        return self.linear(F.dropout(pooled, self.dropout, self.training))

    def features(self, images: Tensor) -> Tensor:
        """The map before the pooling, ``float (B, channels, h, w)``."""
        x = self.adapt(images)
        if self.is_chain:
            for block in self.outputs:
                x = self.model.get_submodule(block)(x)
        else:
            x = self.model.forward_intermediates(x, indices=[len(self.outputs) - 1], intermediates_only=True)[0]
        for norm in self.norms:
            x = _Norm(self.model.get_submodule(norm))(x)
        return x

    def maps(self, images: Tensor, modules: Sequence[str]) -> list[Tensor]:
        """The outputs of some modules, each ``float (B, c, h, w)``; the network runs no further than needed.

        Args:
            images: as for the network.
            modules: names of blocks, or in a chain of any modules within that put out a map; "" for the images.

        Raises:
            SegError: there is no such module, or it does not put out a map.
        """
        found: dict[str, Any] = {"": images}
        x, names = self.adapt(images), list(self.outputs)
        if self.is_chain:
            # A list of blocks is not called itself; its last block is.
            modules = [next((b for b in reversed(names) if n and b.startswith(f"{n}.")), n) for n in modules]
            within = [(n, m) for n, m in self.named_modules() if n in modules and n not in ("", *names)]
            hooks = [m.register_forward_hook(lambda _, i, o, n=n: found.__setitem__(n, o)) for n, m in within]
            for block in names:
                if found.keys() >= set(modules):
                    break
                x = self.model.get_submodule(block)(x)
                if block in modules:  # others would only take memory
                    found[block] = x
            for hook in hooks:
                hook.remove()
        elif wanted := sorted(names.index(name) for name in {*modules} & {*names}):
            options = {"norm": True} if self.is_plain else {}
            maps = self.model.forward_intermediates(
                x, indices=wanted, stop_early=True, intermediates_only=True, **options
            )
            found |= zip((names[i] for i in wanted), maps, strict=True)
        if bad := [name for name in modules if getattr(found.get(name), "ndim", 0) != 4]:
            raise SegError(f"{bad[0]} of {self.kind} gives no map before the pooling; {', '.join(self.stages)} do")
        return [found[name] for name in modules]

    def cut(self, module: str) -> Self:
        """Remove the head and all blocks after ``module``."""
        names = list(self.outputs)
        end = names.index(module) + 1 if module else 0
        _replace(self.model, self.head, nn.Identity())
        if self.is_chain:
            for block in names[end:]:
                _replace(self.model, block, nn.Identity())
        else:
            self.model.prune_intermediate_layers([end - 1], prune_norm=not self.is_plain)
        self.outputs = {name: self.outputs[name] for name in names[:end]}
        self.stages = [name for name in self.stages if name in self.outputs]
        self.norms = self.norms if self.is_plain else []
        return self

    def dilate(self, stride: int) -> Self:
        """Undo the last halvings of a chain and dilate what follows; the weights fit (Chen et al., ICLR 2015)."""
        sides: dict[nn.Conv2d, int] = {}
        convs = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        hooks = [m.register_forward_pre_hook(lambda m, i: sides.__setitem__(m, i[0].shape[-1])) for m in convs]
        _chain(self.model)
        for hook in hooks:
            hook.remove()
        for conv, side in sides.items():
            # How often the network has halved before this layer beyond the wanted stride.
            beyond = max(1, _SIDE // side // stride)
            if beyond > 1 or (conv.stride[0] == 2 and _SIDE // side >= stride):
                conv.stride = (1, 1)
                if max(conv.kernel_size) > 1:  # dilating one of 1 x 1 would only make it slower
                    conv.dilation, is_odd = (beyond, beyond), all(k % 2 for k in conv.kernel_size)
                    conv.padding = tuple(beyond * (k - 1) // 2 for k in conv.kernel_size) if is_odd else "same"
        self.outputs = _chain(self.model)
        return self

    def first_stages(self, count: int) -> list[nn.Module]:
        """The modules of the stem and of the first ``count`` stages."""
        if not 0 <= count <= len(self.stages):
            raise SegError(f"has {len(self.stages)} stages before its pooling; use 0 to {len(self.stages)}")
        if count == 0:
            return []
        end = self.stages[count - 1]
        if self.is_chain:
            names = list(self.outputs)
            return [self.model.get_submodule(block) for block in names[: names.index(end) + 1]]
        # Modules are registered in the order of the network: tokens and position embeddings, stem, stages.
        names = [name for name, _ in self.named_parameters()]
        last = max(i for i, name in enumerate(names) if name.startswith(f"{end}."))
        frozen = set(list(self.parameters())[: last + 1])
        inside = [m for m in self.modules() if (own := set(m.parameters())) and own <= frozen]
        return [nn.ParameterList(p for p in self._parameters.values() if p is not None), *inside]

    def split(self, stages: int = 0) -> tuple[nn.Module, nn.Module]:
        """:meth:`features` as two modules: the stem with the first ``stages``, and the rest. Either may be empty.

        A network that is not a chain is not split within: all of it is in one of the two.
        """
        if not self.is_chain:
            whole = _Features(self)
            return (whole, nn.Identity()) if stages == len(self.stages) else (nn.Identity(), whole)
        first = self.first_stages(stages)
        rest = [self.model.get_submodule(name) for name in list(self.outputs)[len(first) :]]
        rest += [_Norm(self.model.get_submodule(name)) for name in self.norms]
        if not first:
            return nn.Identity(), nn.Sequential(self.adapt, *rest)
        return nn.Sequential(self.adapt, *first), nn.Sequential(*rest)


class InputAdapter(nn.Module):
    """Brings images from ImageNet's normalisation to a network's own, and to a size that it accepts.

    Args:
        mean, std: of the network. multiple: the sides of its input are multiples of it. size: of a fixed-size input.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], multiple: int, size: list[int] | None) -> None:
        super().__init__()
        self.scale = [s / own for s, own in zip(STD, std, strict=True)]
        self.shift = [(m - own) / s for m, own, s in zip(MEAN, mean, std, strict=True)]
        self.multiple, self.size = multiple, size

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, 3, H', W')``."""
        if self.size or self.multiple > 1:
            size = self.size or [max(1, round(s / self.multiple)) * self.multiple for s in images.shape[2:]]
            if size != list(images.shape[2:]):
                images = F.interpolate(images, size, mode="bilinear", antialias=True)
        if (self.scale, self.shift) == ([1, 1, 1], [0, 0, 0]):
            return images
        return images * images.new_tensor(self.scale)[:, None, None] + images.new_tensor(self.shift)[:, None, None]


class _Features(nn.Module):
    """:meth:`Backbone.features` as a module."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone.features(images)


class _Norm(nn.Module):
    """A norm over the channels at each position of a map."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        is_of_maps = any(word in type(self.norm).__name__ for word in ("2d", "Batch"))
        return self.norm(x) if is_of_maps else self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def make_classifier(
    name: str, classes: int, weights: str | None, stages: int = 4, output_stride: int = 32, section: str = ""
) -> Backbone:
    """A backbone with a fresh head for ``classes`` classes.

    Args:
        name: torchvision's, such as ``resnet18``; or timm's: ``timm/convnext_tiny``.
        classes: number of classes, at least 1.
        weights: None for random ones; else see :func:`seg.nets.pretrained.load_weights`.
        stages: 3 leaves out the last stage, for small images and training from scratch.
        output_stride: of the last map, 32, 16 or 8; see :meth:`Backbone.dilate`.
        section: of the config, for messages: ``colocalise.``

    Returns:
        A ``float32`` model on the CPU.

    Raises:
        SegError: an unknown name, a network of another form or stride, or weights that are missing, broken, of another
            architecture, or cannot be downloaded.
    """
    model = create(name)
    try:
        backbone = Backbone(model)
    except SegError as error:
        raise SegError(f"backbone={name}: {error}") from None
    if weights is not None:
        load_weights(model, backbone.head, name, weights, section)
    third = backbone.levels.get(16)
    if backbone.stride > output_stride and backbone.is_chain:
        backbone.dilate(output_stride)
    if stages == 3:
        if third is None:
            raise SegError(f"stages=3: {backbone.kind} has no level of stride 16; use 4")
        backbone.cut(third.module)
    if backbone.stride > output_stride:
        raise SegError(
            f"output_stride={output_stride}: {backbone.kind} keeps a stride of {backbone.stride}, because it does not "
            f"halve by convolutions alone; use {backbone.stride}, or a ResNet"
        )
    _replace(model, backbone.head, nn.Linear(backbone.channels, classes))
    return backbone


def fold_batch_norm(features: nn.Module) -> nn.Module:
    """A copy for inference in ``eval`` mode, with each batch norm folded into the convolution before it.

    Equal up to rounding, and 6 to 12 percent faster for ResNet-18 on a CPU. A module that torch.fx cannot trace is
    copied unchanged.
    """
    from torch.fx.experimental.optimization import fuse

    try:
        return fuse(features.eval())
    except Exception:  # the network's code depends on values
        return copy.deepcopy(features)


@torch.no_grad()
def _chain(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Channels and stride of the output of each module before the pooling, in the order in which they run.

    Empty if a module does not run on the output of the one before, or if there are more than linear layers and layer
    norms after the pooling.
    """

    def parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            is_list = type(child) in (nn.Sequential, nn.ModuleList)
            yield from parts(child, f"{prefix}{name}.") if is_list else [(prefix + name, child)]

    calls: list[tuple[str, nn.Module, Any, Any]] = []
    hooks = [
        part.register_forward_hook(lambda m, i, o, name=name: calls.append((name, m, i, o)))
        for name, part in parts(model)
    ]
    training = model.training
    x = torch.zeros(1, 3, _SIDE, _SIDE, device=next(model.parameters()).device)
    try:
        getattr(model.eval(), "forward_features", model)(x)
    except Exception:  # it does not accept images of this size
        return {}
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    chain: dict[str, tuple[int, int]] = {}
    for name, module, inputs, output in calls:
        is_map = isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3]
        if not is_map or not inputs or inputs[0] is not x or isinstance(module, nn.AdaptiveAvgPool2d):
            break
        x, chain[name] = output, (output.shape[1], _SIDE // output.shape[-1])
    rest = (module for name, module, *_ in calls if name not in chain)
    if any(not isinstance(m, nn.Linear | nn.LayerNorm) and next(m.parameters(), None) is not None for m in rest):
        return {}
    if chain and type(model).__module__ == "torchvision.models.densenet":  # its last ReLU is a function call
        model.add_module("relu", nn.ReLU())
        chain["relu"] = list(chain.values())[-1]
    return chain


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)

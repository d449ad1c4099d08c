"""torchvision classifiers by name: weights from anywhere, the cut at the global pooling, dilation."""

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from seg.errors import SegError
from seg.files import file_sha256
from seg.nets.state_dicts import load_into, read_state_dict

# torchvision is imported where it is used: it takes as long as PyTorch, and a dry run or a finished run needs none.


def make_classifier(name: str, classes: int, weights: str | None, stages: int = 4) -> nn.Module:
    """A torchvision classifier with a fresh head for ``classes`` classes.

    Args:
        name: torchvision's name, such as ``resnet18`` or ``mobilenet_v2``.
        classes: number of classes, at least 1.
        weights: None for random ones, the path of a state dict (``.pth``, ``.safetensors``; any float type; the head
            may be missing), or else a member of torchvision's enum (``DEFAULT``, ``IMAGENET1K_V1``).
        stages: 3 leaves a ResNet's last stage out, for small images and from-scratch training.

    Returns:
        A ``float32`` model on the CPU whose state dict has torchvision's names.

    Raises:
        SegError: for an unknown name, a model without global pooling and one linear layer, or weights that
            are missing, broken, of another architecture, or not to be had offline.
    """
    from torchvision import models

    # Asked first: the segmentation models, which get_model knows too, would download their backbones.
    _members(name)
    model: nn.Module = models.get_model(name)
    _, head = split_at_pooling(model, name)
    if weights is not None:
        load_into(model, read_weights(name, weights), head=head, what=f"{weights} for {name}")
    linear = model.get_submodule(head)
    assert isinstance(linear, nn.Linear)
    width = linear.in_features
    if stages == 3:
        if not isinstance(model, models.ResNet):
            raise SegError(f"classifier.stages=3: only a ResNet can do without its last stage, not {name}")
        width = next(m.num_features for m in reversed(list(model.layer3.modules())) if isinstance(m, nn.BatchNorm2d))
        model.layer4 = nn.Identity()
    parent, _, leaf = head.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Linear(width, classes))
    return model


def weights_of(field: str) -> Callable[[Any, str], str]:
    """What stands in a key for the weights of the backbone in ``field``: a file's bytes, or torchvision's name."""

    def content(stage: Any, weights: str) -> str:
        members = _members(name := getattr(stage, field))
        if Path(weights).is_file():
            return f"sha256:{file_sha256(Path(weights))}"
        if weights not in members:
            raise SegError(f"weights={weights}: no such file{_torchvision_has(name)}")
        return str(members[weights].name)

    return content


def _members(name: str) -> Mapping[str, Any]:
    """torchvision's weights of a classifier by their names; refuses other names of classifiers."""
    from torchvision import models

    if name not in (names := models.list_models(module=models)):
        import difflib

        close = difflib.get_close_matches(name, names, 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise SegError(f"backbone={name}: torchvision has no classifier of that name{hint}")
    members: Mapping[str, Any] = models.get_model_weights(name).__members__
    return members


def _torchvision_has(name: str) -> str:
    return f"; torchvision has {', '.join(_members(name))} for {name}"


def read_weights(name: str, weights: str) -> dict[str, Tensor]:
    """The state dict that ``weights`` names (see :func:`make_classifier`), as ``float32``."""
    members = _members(name)
    if weights in members and not Path(weights).is_file():
        try:
            return dict(members[weights].get_state_dict(progress=False, check_hash=True))
        except (OSError, RuntimeError) as error:
            raise SegError(
                f"weights={weights}: cannot download torchvision's weights of {name} ({error}); "
                f"give a file instead: weights=/path/{Path(members[weights].url).name}, or weights=null for none"
            ) from error
    return read_state_dict(Path(weights), also=_torchvision_has(name))


def fold_batch_norm(features: nn.Module) -> nn.Module:
    """A copy for inference alone, in ``eval`` mode, each batch norm folded into the convolution before it.

    The same function but for rounding, and 6 to 12 percent less time for ResNet-18 on a CPU.
    """
    from torch.fx.experimental.optimization import fuse

    return fuse(features.eval())


def split_at_pooling(model: nn.Module, name: str) -> tuple[fx.GraphModule, str]:
    """Cut a classifier before its global pooling.

    Between pooling and logits there may be one linear layer, dropout and flattening: the form for which the CAM has its
    closed form (Zhou et al., CVPR 2016, eq. 2).

    Args:
        model: a torchvision classifier.
        name: its name, for the error.

    Returns:
        The network up to the pooling, ``(B, 3, H, W) -> (B, C, h, w)``, sharing the modules of ``model``;
        and the dotted name of the linear layer.

    Raises:
        SegError: when the model has another form.
    """
    refusal = SegError(
        f"backbone={name}: CAM needs global average pooling followed by one linear layer, as resnet18/34/50, "
        "mobilenet_v2, densenet121, efficientnet_b0, shufflenet_v2_x1_0 and regnet_y_400mf have"
    )
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception:  # control flow that can't be traced (inception's auxiliary heads)
        raise refusal from None
    modules = dict(model.named_modules())
    output = next(reversed(graph.nodes))
    node: Any = output.args[0]
    if not isinstance(node, fx.Node) or not isinstance(modules.get(str(node.target)), nn.Linear):
        raise refusal
    head = str(node.target)
    pooled = False
    while not pooled:
        node = node.args[0]
        if not isinstance(node, fx.Node):
            raise refusal
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        pooled = isinstance(module, nn.AdaptiveAvgPool2d) or node.target in (F.adaptive_avg_pool2d, "mean")
        passes = isinstance(module, nn.Dropout | nn.Flatten)
        if not (pooled or passes or node.target in (torch.flatten, F.dropout, "flatten", "view")):
            raise refusal
    output.args = (node.args[0],)
    graph.eliminate_dead_code()
    return fx.GraphModule(model, graph), head


def set_output_stride(model: nn.Module, stride: int) -> None:
    """Undo the last halvings of a network and dilate what follows, so that its feature map is finer.

    The weights fit as they are (Chen et al., ICLR 2015).

    Args:
        model: a convolutional network that halves its input five times by strided convolutions; changed in place.
        stride: 32 (nothing to do), 16 or 8.
    """
    side = 64
    inputs: dict[nn.Conv2d, int] = {}
    hooks = [
        m.register_forward_pre_hook(lambda m, args: inputs.__setitem__(m, args[0].shape[-1]))
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
    ]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
        for hook in hooks:
            hook.remove()
        for conv, width in inputs.items():
            # How often the original network had halved before this layer beyond what is wanted now.
            dilation = max(1, (side // width) // stride)
            if dilation > 1 and conv.kernel_size[0] > 1:
                conv.dilation = (dilation, dilation)
                conv.padding = tuple(dilation * (k - 1) // 2 for k in conv.kernel_size)
            if conv.stride[0] == 2 and side // width >= stride:
                conv.stride = (1, 1)
        features, _ = split_at_pooling(model, type(model).__name__)
        got = side // features(torch.zeros(1, 3, side, side)).shape[-1]
    model.train(training)
    if got != stride:
        raise SegError(
            f"output_stride={stride}: {type(model).__name__} keeps a stride of {got}, for it halves by pooling; "
            f"use {got}, or a ResNet"
        )


def backbone_blocks(model: nn.Module) -> nn.ModuleList:
    """The blocks of a torchvision classifier up to its global pooling, in the order in which they run.

    Shared with ``model``; for models that are a plain chain: ResNet, MobileNet, EfficientNet, ConvNeXt, RegNet, VGG.
    """

    def chain(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            yield from chain(child) if type(child) is nn.Sequential else (child,)

    end = (nn.AdaptiveAvgPool2d, nn.Linear)
    return nn.ModuleList(takewhile(lambda block: not isinstance(block, end), chain(model)))


@torch.no_grad()
def levels_by_stride(blocks: nn.ModuleList) -> tuple[dict[int, int], dict[int, int]]:
    """By stride: how many blocks lead to its last output (0: the image itself), and how many channels that has."""
    last, widths = {1: 0}, {1: 3}
    x = torch.zeros(1, 3, 64, 64)
    for i, block in enumerate(blocks.eval(), 1):
        x = block(x)
        stride = 64 // x.shape[-1]
        last[stride], widths[stride] = i, x.shape[1]
    return last, widths


@cache
def blocks_of_stages(name: str, stages: int, first: int, what: str) -> int:
    """How many blocks the stem and the ``first`` stages of a classifier have.

    The first stage ends where the stride is 4 for the last time, the second at 8, and so on. ``what`` is the config's
    key, for the error.
    """
    try:
        # A network of its own: no stride of it is undone, and what is drawn for it is drawn from nobody's numbers.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            blocks = backbone_blocks(make_classifier(name, 2, None, stages))
            last, _ = levels_by_stride(blocks)
    except RuntimeError:
        raise SegError(f"{what}={first}: {name} is not a chain of blocks, so it has no stages; use 0") from None
    ends = [last[stride] for stride in sorted(last) if stride >= 4]
    if first > len(ends):
        raise SegError(f"{what}={first}: {name} has {len(ends)} stages before its pooling; use 0 to {len(ends)}")
    count = ends[first - 1]
    while isinstance(blocks[count - 1], nn.Dropout):  # where no module does the pooling, what follows it
        count -= 1
    return count


def split_after(model: nn.Module, name: str, count: int) -> tuple[nn.Module, nn.Module]:
    """Cut the network up to the pooling once more, after the first ``count`` blocks of :func:`backbone_blocks`.

    Returns:
        The blocks, which are shared with ``model``, and a copy of the rest. One after the other they are what
        :func:`split_at_pooling` returns.
    """
    blocks = backbone_blocks(model)[:count]
    names = {module: path for path, module in model.named_modules()}
    rest = copy.deepcopy(model)
    for block in blocks:
        parent, _, leaf = names[block].rpartition(".")
        setattr(rest.get_submodule(parent), leaf, nn.Identity())
    return nn.Sequential(*blocks), split_at_pooling(rest, name)[0]

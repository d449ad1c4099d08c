"""torchvision classifiers by name: weights from anywhere, the cut at the global pooling, dilation."""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """For a parameter that names weights of the backbone in ``field``: what stands in a key for them.

    A file is its bytes, wherever it lies; ``DEFAULT`` is the member of torchvision's enum that it stands for;
    what is neither is refused, and so is a backbone that torchvision does not have.
    """

    def content(stage: Any, weights: str) -> str:
        members = _members(name := getattr(stage, field))
        if Path(weights).is_file():
            return f"sha256:{file_sha256(Path(weights))}"
        if weights not in members:
            raise SegError(f"weights={weights}: no such file{_torchvision_has(name)}")
        return str(members[weights].name)

    return content


def _members(name: str) -> Mapping[str, Any]:
    """torchvision's weights of a classifier by their names; refuses what is none of its classifiers."""
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
    """The state dict that ``weights`` names (see :func:`make_classifier`), as ``float32``.

    Raises:
        SegError: when it can't be had, saying why and what to do.
    """
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
    """A network for inference alone, each batch norm folded into the convolution before it.

    The convolution's weights are scaled instead of its output: the same function but for rounding (2e-6 of the
    largest value for ResNet-18), and 6 to 12 percent less time for ResNet-18 on a CPU.

    Args:
        features: what :func:`split_at_pooling` returned; its modules stay as they are.

    Returns:
        A copy, in ``eval`` mode.
    """
    from torch.fx.experimental.optimization import fuse

    return fuse(features.eval())


def split_at_pooling(model: nn.Module, name: str, whole: Iterable[nn.Module] = ()) -> tuple[fx.GraphModule, str]:
    """Cut a classifier before its global pooling.

    The traced graph is followed back from the logits: one linear layer, then nothing but dropout and
    flattening, then the global average pooling, whose input is the last feature map. That is the form for
    which the CAM has its closed form (Zhou et al., CVPR 2016, eq. 2).

    Args:
        model: a torchvision classifier.
        name: its name, for the error.
        whole: modules of it that stay one call of the graph each.

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
        graph = _Tracer(whole).trace(model)
    except Exception:  # control flow that can't be traced (inception's auxiliary heads)
        raise refusal from None
    modules = dict(model.named_modules())
    node = next(n for n in graph.nodes if n.op == "output").args[0]
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
        if not (pooled or isinstance(module, _PASSES) or node.target in _PASSING_CALLS):
            raise refusal
    last = node.args[0]
    assert isinstance(last, fx.Node)
    for later in reversed(list(graph.nodes)):
        if later is last:
            break
        graph.erase_node(later)
    graph.output(last)
    return fx.GraphModule(model, graph), head


class _Tracer(fx.Tracer):
    """Does not look into some modules."""

    def __init__(self, whole: Iterable[nn.Module]) -> None:
        super().__init__()
        self.whole = set(whole)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.whole or super().is_leaf_module(m, module_qualified_name)


#: What may stand between the pooling and the linear layer.
_PASSES = (nn.Dropout, nn.Flatten)
_PASSING_CALLS = (torch.flatten, F.dropout, "flatten", "view")


def set_output_stride(model: nn.Module, stride: int) -> None:
    """Undo the last halvings of a network and dilate what follows, so that its feature map is finer.

    The weights fit as they are (DeepLab's "atrous" trick, Chen et al., ICLR 2015).

    Args:
        model: a convolutional network that halves its input five times; changed in place.
        stride: 32 (nothing to do), 16 or 8.

    Raises:
        SegError: when the network does not halve by strided convolutions alone.
    """
    side = 64
    inputs: dict[nn.Module, int] = {}
    hooks = [
        m.register_forward_pre_hook(lambda m, args: inputs.__setitem__(m, args[0].shape[-1]))
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
    ]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
        model.train(training)
    for hook in hooks:
        hook.remove()
    for conv, width in inputs.items():
        assert isinstance(conv, nn.Conv2d)
        # How often the original network had halved before this layer beyond what is wanted now.
        dilation = max(1, stride and (side // width) // stride)
        if dilation > 1 and conv.kernel_size[0] > 1:
            conv.dilation = (dilation, dilation)
            conv.padding = tuple(dilation * (k - 1) // 2 for k in conv.kernel_size)
        if conv.stride[0] == 2 and side // width >= stride:
            conv.stride = (1, 1)
    with torch.no_grad():
        model.eval()
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

    Sequential containers are taken apart; the blocks are shared with ``model``. Works for the models that are
    a plain chain: ResNet and its relatives, MobileNet, EfficientNet, ConvNeXt, RegNet, VGG.
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
    """How many blocks the stem and the first stages of a classifier have.

    The first stage ends where the stride is 4 for the last time, the second at 8, and so on: in a ResNet after
    ``layer1``, ``layer2``, in MobileNetV2 after ``features.3``, ``features.6``.

    Args:
        name, stages: as for :func:`make_classifier`. first: so many of its stages, at least 1.
        what: the config's key, for the error.

    Raises:
        SegError: it has fewer, or is no chain of blocks.
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
    """Cut the network up to the pooling once more, after its first blocks.

    Args:
        model: a torchvision classifier. name: its name, for the error. count: of the blocks before the cut, at least 1.

    Returns:
        Two networks that share the modules of ``model``, and one after the other are what :func:`split_at_pooling`
        returns: the same operators, and so the same numbers.

    Raises:
        SegError: the blocks are not a chain, in which each sees the one before alone.
    """
    blocks = backbone_blocks(model)[:count]
    rest, _ = split_at_pooling(model, name, whole=blocks)
    modules = dict(rest.named_modules())
    image, *calls = list(rest.graph.nodes)[: count + 1]
    for before, call, block in zip([image, *calls], calls, blocks, strict=False):
        called = modules.get(str(call.target)) if call.op == "call_module" else None
        if called is not block or call.args != (before,) or len(before.users) > 1:
            raise SegError(f"backbone={name}: cannot be cut after its first {count} blocks, which are not a chain")
    calls[-1].replace_all_uses_with(image)
    for call in reversed(calls):
        rest.graph.erase_node(call)
    return nn.Sequential(*blocks), fx.GraphModule(rest, rest.graph)

"""Classifiers of torchvision and timm by name; their weights by name or file."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from seg.errors import SegError, did_you_mean, first_line
from seg.files import file_sha256
from seg.nets.checkpoints import load_state, read_state_dict

# torchvision and timm are imported where they are used: importing them takes long, and a finished run needs neither.

#: Prefix of timm's names; all others are torchvision's.
TIMM = "timm/"


class Weights(NamedTuple):
    """Published weights: the provider's tag, names of their files without suffix, and a function that fetches them."""

    tag: str
    stems: Sequence[str]
    fetch: Callable[[], Mapping[str, Any]]


#: The weights of a network by the names that the config may give them.
Published = dict[str, Weights]


def create(name: str) -> nn.Module:
    """A provider's classifier with random weights, for inputs of any size where the network allows it.

    Raises:
        SegError: neither provider has the name; the message suggests similar names.
    """
    known_backbone(None, name)
    if not name.startswith(TIMM):
        from torchvision import models

        return models.get_model(name)
    import timm

    bare = name.removeprefix(TIMM)
    if getattr(timm.models.get_pretrained_cfg(bare), "fixed_input_size", False):
        try:
            return timm.create_model(bare, dynamic_img_size=True)
        except TypeError:  # MaxViT, Hiera
            pass
    return timm.create_model(bare)


def known_backbone(stage: Any, name: Any) -> Any:
    """What identifies it in a key: the name, and the code if it is the user's own. Of a tuple of names a list.

    Raises:
        SegError: neither provider has the name; the message suggests similar names.
    """
    if isinstance(name, tuple):
        return [known_backbone(stage, one) for one in name]
    if name in ("resnet18", "mobilenet_v2"):  # the defaults, without importing a provider
        return name
    from torchvision import models

    if name in (known := models.list_models(module=models)):
        return name
    import timm

    bare = name.removeprefix(TIMM)
    if name != bare and is_timm(bare):
        return name + own_code(bare)
    names = [TIMM + n for n in (*timm.list_pretrained(), *timm.list_models())]
    hint = did_you_mean(name, [*names, *known], 3) or "; your own is known once a _target_ imports it"
    raise SegError(f"backbone={name}: neither torchvision nor timm (timm/NAME) has a classifier of that name{hint}")


def is_timm(name: str) -> bool:
    """Whether timm has a network of this name, and if the name has a tag, weights of that tag."""
    import timm

    return timm.is_model(name) and ("." not in name or timm.models.is_model_pretrained(name))


def own_code(name: str) -> str:
    """Of a network that timm knows but does not define: a hash of its code. Else empty."""
    import timm

    from seg.store.code_hash import source_hash  # here: the methods on arrays need no store

    function = timm.models.model_entrypoint(name)
    return "" if function.__module__.startswith("timm.") else f" {source_hash(function)}"


#: Folder of weights by the providers' file names: a run's ``weights_dir``, else ``$SEG_WEIGHTS``.
weights_dir: ContextVar[str | None] = ContextVar("weights_dir", default=None)


def weights_of(
    field: str, section: str = "", published: Callable[[str], Published] | None = None
) -> Callable[[Any, Any], Any]:
    """What identifies the weights of the backbone in ``field`` in a key: a file's hash, or the provider's name.

    If the field has several backbones, so do the weights, and the key.
    """

    def content(stage: Any, weights: Any) -> Any:
        names = getattr(stage, field)
        return list(map(one, names, weights)) if isinstance(names, tuple) else one(names, weights)

    def one(name: str, weights: str | None) -> str | None:
        if weights is None:
            return None
        found = _find(name, weights, section, published)
        return f"sha256:{file_sha256(found)}" if isinstance(found, Path) else found.tag

    return content


def weights_folder() -> Path:
    """The folder of :data:`weights_dir`; without one, a path that has no files."""
    return Path(weights_dir.get() or os.environ.get("SEG_WEIGHTS") or os.devnull)


def own_file(weights: str) -> Path | None:
    """The file of this path, or of this name in :data:`weights_dir`."""
    return next((file for file in (Path(weights), weights_folder() / weights) if file.is_file()), None)


def hub_folder(repository: str) -> Path | None:
    """A repository of the Hugging Face hub as a folder: a path, or in :data:`weights_dir` its name or last part."""
    root = weights_folder()
    places = (Path(repository), root / repository, root / Path(repository).name)
    return next((place for place in places if place.is_dir()), None)


def hub_is_reached() -> bool:
    """Whether the Hugging Face hub answers; its own client would retry for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # of the client, or of its offline mode
        return False
    return True


def load_weights(model: nn.Module, head: str, name: str, weights: str, section: str = "") -> None:
    """Load weights into a provider's classifier in place, without its head.

    Args:
        model: from :func:`create`. head: dotted name of its linear layer. name: the provider's.
        weights: a file with a state dict of the provider's names (``.pth``, ``.safetensors``; any float type; the head
            may be missing), by path or by its name in :data:`weights_dir`; or the provider's name of weights:
            ``DEFAULT``, ``IMAGENET1K_V1``, ``lvd142m``, downloaded unless :data:`weights_dir` has the provider's file.
        section: of the config, for messages: ``colocalise.``

    Raises:
        SegError: weights that are missing, broken, of another architecture, or cannot be downloaded.
    """
    file, state = read_weights(name, weights, section)
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if file is not None and name.startswith(TIMM) and adapt is not None:  # from the authors' names to timm's
        state = adapt(state, model)
    load_state(model, state, f"{section}weights={weights}: does not fit {name}", head=head)


def read_weights(
    name: str, weights: str, section: str = "", published: Callable[[str], Published] | None = None
) -> tuple[Path | None, dict[str, Any]]:
    """The state dict of some weights, with the file if there is one.

    Args and errors as for :func:`load_weights`. published: the weights of a network by its name; None: those of
    torchvision or timm.
    """
    found = _find(name, weights, section, published)
    if isinstance(found, Path):
        return found, read_state_dict(found, f"{section}weights")
    try:
        with torch.random.fork_rng(devices=[]):
            return None, dict(found.fetch())
    except Exception as error:  # each client has its own
        none = "" if section else ", or weights=null for none"
        raise SegError(
            f"{section}weights={weights}: cannot download the weights of {name} ({first_line(error)}); give a file "
            f"instead: {section}weights=/path/{found.stems[0]}.pth, or put it into weights_dir{none}"
        ) from error


def _find(name: str, weights: str, section: str, published: Callable[[str], Published] | None = None) -> Path | Weights:
    """The file of some weights, or if it is not on this machine, where to fetch it."""
    if published is None:
        known_backbone(None, name)
    if file := own_file(weights):
        return file
    there = (published or published_weights)(name)
    if weights not in there:
        provider = "smp" if published else "timm" if name.startswith(TIMM) else "torchvision"
        has = ", ".join(there) or "none"
        raise SegError(f"{section}weights={weights}: no such file; {provider} has {has} for {name}")
    found = there[weights]
    files = (weights_folder() / (stem + suffix) for stem in found.stems for suffix in (".safetensors", ".pth", ".pt"))
    return next((file for file in files if file.is_file()), found)


def published_weights(name: str) -> Published:
    """The weights that torchvision or timm publishes for a classifier."""
    if not name.startswith(TIMM):
        from torchvision import models

        members = models.get_model_weights(name).__members__
        options = {"progress": False, "check_hash": True}
        return {
            k: Weights(m.name, [Path(m.url).stem], partial(m.get_state_dict, **options)) for k, m in members.items()
        }
    import timm

    architecture, _, own = name.removeprefix(TIMM).partition(".")
    default = own or getattr(timm.models.get_pretrained_cfg(architecture), "tag", None)
    published: Published = {}
    for full in timm.list_pretrained(f"{architecture}.*"):
        tag, url = full.partition(".")[2], getattr(timm.models.get_pretrained_cfg(full), "url", None)
        stems = [*([Path(str(url)).stem] if url else []), full, *([architecture] if tag == default else [])]
        fetch = lambda full=full: timm.create_model(full, pretrained=True).state_dict()  # noqa: E731
        published |= dict.fromkeys([tag, "DEFAULT"] if tag == default else [tag], Weights(tag, stems, fetch))
    return published

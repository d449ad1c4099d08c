"""Classifiers of torchvision and timm by name; their weights by name or file."""

import difflib
import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg.errors import SegError, first_line
from seg.files import file_sha256
from seg.nets.checkpoints import load_state, read_state_dict

# torchvision and timm are imported where they are used: they take as long as PyTorch, and a finished run needs neither.

#: How names of timm's begin; all others are torchvision's.
TIMM = "timm/"

#: By what ``weights`` may say: the provider's own name of them, stems of their files, a function that fetches them.
Published = dict[str, tuple[str, list[str], Callable[[], Mapping[str, Any]]]]


def create(name: str) -> nn.Module:
    """A provider's classifier with random weights, made for inputs of any size if it can be.

    Raises:
        SegError: neither provider has the name; with near ones of both.
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


def known_backbone(stage: Any, name: str) -> str:
    """The name, as it stands in a key; refused with near ones if neither provider has it."""
    if name in ("resnet18", "mobilenet_v2"):  # those of the config: nothing has to be imported
        return name
    from torchvision import models

    if name in (known := models.list_models(module=models)):
        return name
    import timm

    bare = name.removeprefix(TIMM)
    if name != bare and is_timm(bare):
        return name
    near = {n: TIMM + n for n in (*timm.list_pretrained(), *timm.list_models())}
    near |= {} if name != bare else {n: n for n in known}
    close = [near[n] for n in difflib.get_close_matches(bare, near, 3)]
    hint = f"did you mean {' or '.join(close)}?" if close else "your own is known once a _target_ imports it"
    raise SegError(f"backbone={name}: neither torchvision nor timm (timm/NAME) has a classifier of that name; {hint}")


def is_timm(name: str) -> bool:
    """Whether timm has a network of this name, and such weights of it, if the name says which."""
    import timm

    return timm.is_model(name) and ("." not in name or timm.models.is_model_pretrained(name))


#: Folder of weights by the providers' file names; a run sets it to its ``weights_dir``, else it is ``$SEG_WEIGHTS``.
weights_dir: ContextVar[str | None] = ContextVar("weights_dir", default=None)


def weights_of(
    field: str, section: str = "", published: Callable[[str], Published] | None = None
) -> Callable[[Any, str], str]:
    """What stands in a key for the weights of the backbone in ``field``: a file's bytes, or the provider's name."""

    def content(stage: Any, weights: str) -> str:
        file, tag, _ = _found(getattr(stage, field), weights, section, published)
        return tag if file is None else f"sha256:{file_sha256(file)}"

    return content


def weights_folder() -> Path:
    """The folder that :data:`weights_dir` means; no folder where there is none."""
    return Path(weights_dir.get() or os.environ.get("SEG_WEIGHTS") or os.devnull)


def hub_folder(repository: str) -> Path | None:
    """A folder of the Hugging Face hub on this machine: a path, or in :data:`weights_dir` its name or the last part."""
    root = weights_folder()
    places = (Path(repository), root / repository, root / Path(repository).name)
    return next((place for place in places if place.is_dir()), None)


def hub_is_reached() -> bool:
    """Whether the Hugging Face hub answers, asked once: its own client repeats itself for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # of the client, or of its offline mode
        return False
    return True


def load_weights(model: nn.Module, head: str, name: str, weights: str, section: str = "") -> None:
    """Load weights into a provider's classifier in place, without those of its head.

    Args:
        model: :func:`create` made it. head: dotted name of its linear layer. name: the provider's.
        weights: a state dict of the provider's names (``.pth``, ``.safetensors``; any float type; the head may be
            missing) by path, or by its name in :data:`weights_dir`; or what the provider calls them: ``DEFAULT``,
            ``IMAGENET1K_V1``, ``lvd142m``. Those are downloaded, unless :data:`weights_dir` has the provider's file.
        section: of the config, for messages: ``colocalise.``

    Raises:
        SegError: weights that are missing, broken, of another architecture, or not to be had offline.
    """
    file, state = read_weights(name, weights, section)
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if file is not None and name.startswith(TIMM) and adapt is not None:  # from the authors' own names to timm's
        state = adapt(state, model)
    load_state(model, state, f"{section}weights={weights}: does not fit {name}", head=head)


def read_weights(
    name: str, weights: str, section: str = "", published: Callable[[str], Published] | None = None
) -> tuple[Path | None, dict[str, Any]]:
    """The file of some weights, if there is one, and their state dict.

    Args and errors as of :func:`load_weights`. published: which weights there are by the network's name; None: those of
    torchvision or timm.
    """
    file, tag, fetch = _found(name, weights, section, published)
    if file is not None:
        return file, read_state_dict(file, f"{section}weights")
    try:
        with torch.random.fork_rng(devices=[]):
            return None, dict(fetch())
    except Exception as error:  # each client has its own
        stem = (published or published_weights)(name)[tag][1][0]
        none = "" if section else ", or weights=null for none"
        raise SegError(
            f"{section}weights={weights}: cannot download the weights of {name} ({first_line(error)}); give a file "
            f"instead: {section}weights=/path/{stem}.pth, or put it into weights_dir{none}"
        ) from error


def _found(
    name: str, weights: str, section: str, published: Callable[[str], Published] | None = None
) -> tuple[Path | None, str, Callable[[], Mapping[str, Any]]]:
    """The file of some weights, if there is one; else their name, and a function that fetches them."""
    if published is None:
        known_backbone(None, name)
    folder = weights_folder()
    if own := next((file for file in (Path(weights), folder / weights) if file.is_file()), None):
        return own, "", dict
    if weights not in (there := (published or published_weights)(name)):
        provider = "smp" if published else "timm" if name.startswith(TIMM) else "torchvision"
        has = ", ".join(there) or "none"
        raise SegError(f"{section}weights={weights}: no such file; {provider} has {has} for {name}")
    tag, stems, fetch = there[weights]
    files = (folder / (stem + suffix) for stem in stems for suffix in (".safetensors", ".pth", ".pt"))
    return next((file for file in files if file.is_file()), None), tag, fetch


def published_weights(name: str) -> Published:
    """The weights that torchvision or timm has of a classifier."""
    if not name.startswith(TIMM):
        from torchvision import models

        members = models.get_model_weights(name).__members__
        options = {"progress": False, "check_hash": True}
        return {k: (m.name, [Path(m.url).stem], partial(m.get_state_dict, **options)) for k, m in members.items()}
    import timm

    architecture, _, own = name.removeprefix(TIMM).partition(".")
    default = own or getattr(timm.models.get_pretrained_cfg(architecture), "tag", None)
    published: Published = {}
    for full in timm.list_pretrained(f"{architecture}.*"):
        tag, url = full.partition(".")[2], getattr(timm.models.get_pretrained_cfg(full), "url", None)
        stems = [*([Path(str(url)).stem] if url else []), full, *([architecture] if tag == default else [])]
        fetch = lambda full=full: timm.create_model(full, pretrained=True).state_dict()  # noqa: E731
        published |= dict.fromkeys([tag, "DEFAULT"] if tag == default else [tag], (tag, stems, fetch))
    return published

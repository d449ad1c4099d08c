"""What a job's figures depend on, beside the overrides that its folder is named by."""

import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seg.errors import SegError
from seg.sweep.plan import is_aside


def identity(config: DictConfig) -> str | None:
    """Hash of the code, of the data's content and of everything in the config that can change a figure.

    A job with the same identity would only find its own products in the store again, so it is skipped. It is
    meant to be computed once for all jobs that differ in plain values, from the config of one of them.

    Returns:
        16 hex digits, or None where it can't be known, as with data that are not there.
    """
    from omegaconf.errors import OmegaConfBaseException

    from seg.instantiate import instantiate

    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        source = instantiate(config, "data.prepared.source").key
        values = OmegaConf.to_container(ours, resolve=True)
    except (SegError, OmegaConfBaseException):  # the job itself meets it again, and tells
        return None
    assert isinstance(values, dict)
    leaves = {k: _code_of(v) if k.endswith("._target_") else _content(v) for k, v in _leaves(values) if not is_aside(k)}
    text = json.dumps([_code(), source, leaves], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _leaves(node: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [leaf for k, v in node.items() for leaf in _leaves(v, f"{path}.{k}" if path else str(k))]
    return [(path, node)]


def _content(value: Any) -> Any:
    """A value; a file that it names by its content (weights, say)."""
    from seg.stage import file_sha256

    try:
        is_file = isinstance(value, str) and Path(value).is_file()
    except (OSError, ValueError):
        return value
    return file_sha256(Path(value)) if is_file else value


def _code_of(target: str) -> Any:
    """A class by its dotted name; of a user's own the code of its module too."""
    place = target.rpartition(".")[0]
    if place.partition(".")[0] == "seg":
        return target
    try:
        spec = importlib.util.find_spec(place)
    except (ImportError, ValueError):  # the job itself meets it again, and tells
        return target
    return [target, _content(spec.origin if spec else None)]


@cache
def _code() -> str:
    """Hash of the package's own code: whoever works on it gets every job looked at again."""
    import seg

    digest = hashlib.sha256()
    root = Path(seg.__file__).parent
    try:
        for path in sorted(root.rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    except OSError as error:
        raise SegError(f"{root}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()

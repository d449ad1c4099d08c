"""``select=<sweep folder or best.yaml>``: go on with the choice that a sweep made."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from seg.config.aside import is_aside
from seg.config.paths import CONF
from seg.config.used import FACTS
from seg.errors import SegError

By = Literal["miou", "held_out_accuracy"]

#: Bytes of a ``best.yaml``, at most; a sweep writes some hundred.
_LARGEST = 20_000

#: A key that may be swept: words and points, the slash of a group; none begins with an underscore, as ``_target_``.
_KEY = re.compile(r"[A-Za-z]\w*([./][A-Za-z0-9]\w*)*")
#: A number or a word, or a list of them: no path, no other key's value, no call.
_WORD = r"[+-]?\w+([.+-]\w+)*"
_VALUE = re.compile(rf"{_WORD}|\[\s*({_WORD}(\s*,\s*{_WORD})*)?\s*\]")
#: What is read, written or fetched, where a plain word will do for it.
_PLACES = ("root", "cache", "download")


def selected(path: Path, by: str, given: Sequence[str]) -> tuple[list[str], str]:
    """What a sweep chose, as overrides.

    The file may be a stranger's, and an override can name code: only swept keys with plain values are taken.

    Args:
        path: the sweep's folder, or its ``best.yaml``.
        by: ``miou``, measured with masks of trainval images; or ``held_out_accuracy`` of the classifier,
            which needs none; the threshold is then the one that parts the scores best.
        given: keys that the command line sets: it wins.

    Returns:
        The overrides, and a line that says what was chosen and how.

    Raises:
        SegError: if there is no such sweep, it has no such choice, the file is none of ours, or it holds anything else.
    """
    import yaml

    if by not in get_args(By):
        raise SegError(f"select_by={by}: must be one of {', '.join(get_args(By))}")
    file = path / "best.yaml" if path.is_dir() else path
    if not file.is_file():
        what = "the sweep has not ended with a result" if path.is_dir() else "no such folder or file"
        raise SegError(f"select={path}: {what}; give a sweep's folder or its best.yaml")
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("larger than any")
        # Not by OmegaConf, which would write out what an alias of YAML repeats.
        document: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        choice = document.get(by)
        overrides, rule, images = (
            (choice["overrides"], choice["rule"], choice.get("images", 0)) if choice else ([], "", 0)
        )
        # Each by its type, for what an alias repeats has no end when it is written out.
        if not all(isinstance(x, str) for x in (rule, *overrides)) or type(images) is not int:
            raise ValueError("other types")
    except Exception as error:  # of the parser, or of what it finds; it is one answer to all
        raise SegError(f"select={path}: is not the best.yaml of a sweep") from error
    if not choice:
        raise SegError(f"select_by={by}: the sweep {file.parent} has no such figure; sweep a classifier's epoch")
    # A pipeline that is asked for by name is not turned into the one that the sweep found best.
    skipped = {*given, *(("pipeline", "supervision", "refiner", "segmenter") if "pipeline" in given else ())}
    taken = [text for text in overrides if text.partition("=")[0] not in skipped]
    if odd := [text for text in taken if not _is_plain(text)]:
        raise SegError(
            f"select={path}: {odd[0][:80]!r} is no swept key with a plain value, so nothing is taken from it; if you "
            "know where it comes from, type it yourself"
        )
    said = f"select: {' '.join(taken) or 'nothing that is not given'} from {file} ({' '.join(rule[:300].split())})"
    # So that the run's table can say how many masks have chosen what it is made with.
    facts = [f"++{FACTS}.{text.partition('=')[0]}={images}" for text in taken] if images else []
    return taken + facts, said


def _is_plain(override: str) -> bool:
    """Whether an override sets a key that changes figures to a number, a word, or a list of these."""
    key, _, value = override.partition("=")
    if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
        return False
    if "/" in key or (CONF / key).is_dir():  # a choice of a group is the name of a file
        return re.fullmatch(r"\w+", value) is not None and not is_aside(key)
    return key.startswith("runtime.") or not (is_aside(key) or key.rpartition(".")[2] in _PLACES)

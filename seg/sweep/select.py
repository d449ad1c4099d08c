"""``select=<sweep folder or best.yaml>``: go on with the choice that a sweep made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from seg.config.masks_used import FACTS
from seg.errors import SegError

By = Literal["miou", "held_out_accuracy"]


def selected(path: Path, by: str, given: Sequence[str]) -> tuple[list[str], str]:
    """What a sweep chose, as overrides.

    Args:
        path: the sweep's folder, or its ``best.yaml``.
        by: ``miou``, measured with masks of trainval images; or ``held_out_accuracy`` of the classifier,
            which needs none; the threshold is then the one that parts the scores best.
        given: keys that the command line sets: it wins.

    Returns:
        The overrides, and a line that says what was chosen and how.

    Raises:
        SegError: if there is no such sweep, it has no such choice, or the file is none of ours.
    """
    from omegaconf import OmegaConf

    if by not in get_args(By):
        raise SegError(f"select_by={by}: must be one of {', '.join(get_args(By))}")
    file = path / "best.yaml" if path.is_dir() else path
    if not file.is_file():
        what = "the sweep has not ended with a result" if path.is_dir() else "no such folder or file"
        raise SegError(f"select={path}: {what}; give a sweep's folder or its best.yaml")
    try:
        document: Any = OmegaConf.to_container(OmegaConf.load(file))
        choice = document.get(by)
        overrides = [str(text) for text in choice["overrides"]] if choice else []
        rule = str(choice["rule"]) if choice else ""
    except Exception as error:  # of the parser, or of what it finds; it is one answer to all
        raise SegError(f"select={path}: is not the best.yaml of a sweep") from error
    if not choice:
        raise SegError(f"select_by={by}: the sweep {file.parent} has no such figure; sweep a classifier's epoch")
    # A pipeline that is asked for by name is not turned into the one that the sweep found best.
    skipped = {*given, *(("pipeline", "supervision", "refiner", "segmenter") if "pipeline" in given else ())}
    taken = [text for text in overrides if text.partition("=")[0] not in skipped]
    images = int(choice.get("images") or 0)
    said = f"select: {' '.join(taken) or 'nothing that is not given'} from {file} ({rule})"
    # So that the run's table can say how many masks have chosen what it is made with.
    facts = [f"++{FACTS}.{text.partition('=')[0]}={images}" for text in taken] if images else []
    return taken + facts, said

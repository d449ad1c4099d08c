"""Which config keys can change a figure."""

import re

#: What tells where and how to compute, show or keep, and so is no part of what a sweep is about.
_ASIDE = re.compile(
    r"(store|figures|dry_run|chosen_by_masks(\..*)?|sweep|export\..*|evaluation\.panel|tracker(\..*)?|runtime\..*|hydra[./].*)"
)


def is_aside(key: str) -> bool:
    """Whether a config key can't change a figure: it enters neither a folder's name nor a job's identity."""
    return _ASIDE.fullmatch(key.lstrip("+~")) is not None

"""From a template to a file: rendering, embedded pictures, the page's size."""

import base64
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg.errors import SegError
from seg.store import atomic_path

if TYPE_CHECKING:
    from jinja2 import Environment

log = logging.getLogger(__name__)

#: Bytes of a whole page, whatever the data set.
LIMIT = 10_000_000
#: Bytes of one picture beside the gallery; a larger one stays a file beside the page.
LARGEST = 1_000_000

_MIME = {".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}


def data_uri(content: bytes, suffix: str) -> str:
    """A picture as text that an ``img`` takes for its source.

    Args:
        content: the file's bytes. suffix: ``.png``, ``.jpg`` or ``.svg``.
    """
    return f"data:{_MIME[suffix]};base64,{base64.b64encode(content).decode()}"


def embedded(path: Path | None) -> str | None:
    """The data URI of a picture that was written; None if there is none, or it is larger than `LARGEST`."""
    if path is None or not path.is_file() or path.stat().st_size > LARGEST:
        return None
    return data_uri(path.read_bytes(), path.suffix)


def write_page(path: Path, template: str, values: dict[str, Any]) -> Path:
    """Render a template of this package.

    Args:
        path: the HTML file, written in one step. template: its name. values: what it names.

    Returns:
        ``path``.

    Raises:
        SegError: if the folder cannot be written to, or the page would be larger than `LIMIT`.
    """
    from seg import __version__

    text = _environment().get_template(template).render(version=__version__, **values).encode()
    if len(text) > LIMIT:
        raise SegError(f"{path}: would have {len(text)} bytes; the limit is {LIMIT}; leave it out with figures=false")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as tmp:
            tmp.write_bytes(text)
    except OSError as error:
        raise SegError(f"{path}: cannot be written ({error.strerror}); choose another hydra.run.dir=") from error
    return path


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"duration": duration, "size": size, "figure": figure}
    return made


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``38 s``, ``12 min 5 s``, ``3 h 4 min``; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def size(count: float | None) -> str:
    """Bytes for people, in steps of 1000: ``512 B``, ``1.2 kB``, ``45 MB``; a dash for None."""
    if count is None:
        return "–"
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def figure(value: Any) -> str:
    """A figure with four decimals; a dash for None and nan."""
    return "–" if value is None or value != value else f"{value:.4f}"

"""From a template to a file: rendering, embedded pictures, the page's size."""

import base64
import hashlib
import mimetypes
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.files import atomic_path
from seg.format import duration, figure, size
from seg.version import __version__

#: What the page of a run, or of a sweep, is called in its folder.
NAME = "report.html"
#: Bytes of a whole page, whatever the data set.
LIMIT = 10_000_000
#: Bytes of one picture beside the gallery; a larger one stays a file beside the page.
LARGEST = 1_000_000


def data_uri(content: bytes, suffix: str) -> str:
    """A picture as text that an ``img`` takes for its source.

    Args:
        content: the file's bytes. suffix: ``.png``, ``.jpg`` or ``.svg``.
    """
    return f"data:{mimetypes.types_map[suffix]};base64,{base64.b64encode(content).decode()}"


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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Path(__file__).parent / "templates"
    made = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"duration": duration, "size": size, "figure": figure}
    script = (templates / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = made.get_template(template)
    ours = {"version": __version__, "script": script, "script_hash": f"sha256-{digest}"}
    text = page.render(**ours, **values).encode(errors="replace")
    if len(text) > LIMIT:
        raise SegError(f"{path}: would have {len(text)} bytes; the limit is {LIMIT}; leave it out with figures=false")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as tmp:
            tmp.write_bytes(text)
    except OSError as error:
        raise SegError(f"{path}: cannot be written ({error.strerror}); choose another hydra.run.dir=") from error
    return path

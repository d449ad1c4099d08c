"""From a template to a file: rendering, tables, embedded pictures."""

import base64
import mimetypes
from pathlib import Path
from typing import Any

import pandas as pd

from seg.errors import SegError
from seg.files import atomic_path
from seg.format import duration, figure
from seg.version import __version__

#: What the page of a run, or of a sweep, is called in its folder.
NAME = "report.html"
#: Bytes of one picture that is embedded from a file; a larger one stays beside the page.
LARGEST = 1_000_000


def data_uri(content: bytes, suffix: str) -> str:
    """A picture (``.png`` or ``.jpg``) as text that an ``img`` takes for its source."""
    return f"data:{mimetypes.types_map[suffix]};base64,{base64.b64encode(content).decode()}"


def embedded(path: Path | None) -> str | None:
    """The data URI of a picture that was written; None if there is none, or it is larger than `LARGEST`."""
    if path is None or not path.is_file() or path.stat().st_size > LARGEST:
        return None
    return data_uri(path.read_bytes(), path.suffix)


def table(rows: Any, index: bool = False) -> str:
    """Rows or a frame as an HTML table, escaped; figures with four decimals, a dash for what is missing."""
    frame = pd.DataFrame(rows)
    html: str = frame.to_html(index=index, border=0, justify="left", float_format="{:.4f}".format, na_rep="–")
    return html


def write_page(path: Path, template: str, values: dict[str, Any]) -> Path:
    """Render a template of this package.

    Args:
        path: the HTML file, written in one step. template: its name. values: what it names.

    Returns:
        ``path``.

    Raises:
        SegError: if the folder cannot be written to.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"duration": duration, "figure": figure, "table": lambda rows, **kw: Markup(table(rows, **kw))}
    text = made.get_template(template).render(version=__version__, **values).encode(errors="replace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as tmp:
            tmp.write_bytes(text)
    except OSError as error:
        raise SegError(f"{path}: cannot be written ({error.strerror}); choose another hydra.run.dir=") from error
    return path

"""The package's config folder."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]

#: The config folder: inside the package when installed from a wheel, beside it in a checkout.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

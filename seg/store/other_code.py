"""Products that other code made than there is now: what a run found of them, and what is done about it."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from seg.errors import SegError
from seg.files import read_json, write_json
from seg.store.inventory import Product, locked, products
from seg.store.manifest import write_manifest

#: In the store: the code of now, by class, of which a run found products that other code made.
LIST = "other_code.json"


def remember_code(root: Path, changed: Mapping[str, str]) -> None:
    """Write down what a run has found, for ``python -m seg.store rebuild`` and ``accept``, which know no stages."""
    with suppress(OSError):
        if not changed.items() <= (known := _remembered(root)).items():
            write_json(root / LIST, known | dict(changed))


def made_by_other_code(root: Path, names: Collection[str]) -> tuple[list[Product], dict[str, str]]:
    """The products of a store that were made by, or of what was made by, other code of some classes.

    Args:
        root: of the store. names: of the classes, none for all that a run has found.

    Returns:
        The products, and the code of now by class.

    Raises:
        SegError: no run has found such a class.
    """
    everything, known = products(root), _remembered(root)
    if unknown := sorted(set(names) - known.keys()):
        there = ", ".join(sorted(known)) or "none"
        raise SegError(f"{', '.join(unknown)}: no run has told of other code of it; it told of: {there}")
    now = {name: code for name, code in known.items() if not names or name in names}
    return [x for x in everything if any(_code(x).get(name, code) != code for name, code in now.items())], now


def accept(product: Product, now: Mapping[str, str]) -> bool:
    """Say in a product's manifest that it is as the code of now makes it; False where another process builds it."""
    with locked(product.folder) as free:
        if free and product.manifest is not None:
            code = {name: now.get(name, made) for name, made in _code(product).items()}
            write_manifest(product.folder, {**product.manifest, "code": code})
        return free


def forget_code(root: Path, names: Collection[str]) -> None:
    """Nothing is left to be done about some classes."""
    write_json(root / LIST, {name: code for name, code in _remembered(root).items() if name not in names})


def _code(product: Product) -> dict[str, str]:
    found = (product.manifest or {}).get("code")
    return found if isinstance(found, dict) else {}


def _remembered(root: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        found = read_json(root / LIST)
        return found if isinstance(found, dict) else {}
    return {}

"""Getting Oxford-IIIT Pet: torchvision's download, and what to tell someone who has no data yet."""

from pathlib import Path

from seg.data.download import CUT_OFF, MARKER, fetch
from seg.data.layout import FOLDER, layout_folder, missing_parts


def missing_data_message(root: Path) -> str:
    """One line: what is missing at ``root``, and the two ways to get it."""
    what = f"no Oxford-IIIT Pet data at {root} (missing: {', '.join(_missing(root))})"
    return f"{what}; pass data.download=true, or {_by_hand(root)}, or point data.root elsewhere"


def _by_hand(root: Path) -> str:
    archives = "images.tar.gz and annotations.tar.gz (https://www.robots.ox.ac.uk/~vgg/data/pets/)"
    return f"unpack the official {archives} into {root / FOLDER}"


def is_complete(root: Path) -> bool:
    """Whether images and lists are there and no download was cut off while it unpacked."""
    return not _missing(root)


def _missing(root: Path) -> tuple[str, ...]:
    cut = (layout_folder(root) / MARKER).exists()
    return (*missing_parts(root), *([CUT_OFF] if cut else []))


def download_oxford_pet(root: Path) -> None:
    """Download and unpack the data into ``root/oxford-iiit-pet`` with torchvision, checksums verified.

    Nothing is done where the data are complete. Archives that lie in that folder already, by hand or from
    an earlier attempt, are used if their checksum is right, without the network. What a killed attempt or an
    incomplete folder left is not taken for whole: its annotations are moved aside, and all is unpacked again.

    Args:
        root: where the data shall lie, or the layout's folder itself if it is called ``oxford-iiit-pet``.

    Raises:
        SegError: no network, a checksum that does not match, a folder that cannot be written, archives
            without the lists, torchvision missing.
    """
    if is_complete(root):
        return
    folder = layout_folder(root)
    place = folder.parent if folder.name == FOLDER else root
    folder = place / FOLDER

    def get() -> None:
        from torchvision.datasets import OxfordIIITPet

        OxfordIIITPet(str(place), split="trainval", download=True)

    # torchvision takes the data for complete where both folders exist, whatever is in them.
    fetch("Oxford-IIIT Pet", folder, folder / "annotations", _by_hand(place), get, lambda: missing_parts(place))

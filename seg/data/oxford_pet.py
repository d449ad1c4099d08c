"""Getting Oxford-IIIT Pet: torchvision's download, and what to tell someone who has no data yet."""

from pathlib import Path

from seg.data.download import MARKER, downloading, move_aside
from seg.data.layout import FOLDER, layout_folder, missing_parts
from seg.errors import SegError


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
    return (*missing_parts(root), *(["the end of a download that was cut off"] if cut else []))


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # torchvision takes the data for complete where both folders exist, whatever is in them.
        move_aside(folder / "annotations")
        (folder / MARKER).touch()
    except OSError as error:
        raise SegError(f"cannot download to {place}: {error.strerror or error}") from error
    with downloading("Oxford-IIIT Pet", folder, _by_hand(place)):
        from torchvision.datasets import OxfordIIITPet

        OxfordIIITPet(str(place), split="trainval", download=True)
    (folder / MARKER).unlink(missing_ok=True)
    if missing := missing_parts(place):
        raise SegError(f"the archives in {folder} lack {', '.join(missing)}; delete them and try again")

"""Getting Pascal VOC: torchvision's download, and what to tell someone who has no data yet."""

from pathlib import Path

from seg.data.download import MARKER, downloading, move_aside
from seg.data.voc_layout import missing_parts, unpacked_folder, unpacked_in, voc_folder
from seg.errors import SegError


def missing_voc_message(root: Path, year: int) -> str:
    """One line: what is missing at ``root``, and the two ways to get it."""
    what = f"no data in VOC's layout at {root} (missing: {', '.join(_missing(root, year))})"
    return f"{what}; pass data.download=true, or {_by_hand(root, year)}, or point data.root elsewhere"


def _by_hand(root: Path, year: int) -> str:
    page = f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/"
    return f"unpack the official VOCtrainval archive ({page}) into {unpacked_in(root)}"


def is_complete(root: Path, year: int) -> bool:
    """Whether images and a list are there and no download was cut off while it unpacked."""
    return not _missing(root, year)


def _missing(root: Path, year: int) -> list[str]:
    folder = voc_folder(root, year)
    cut = ["the end of a download that was cut off"] if (folder / MARKER).exists() else []
    return [*(f"{folder.name}/{part}" for part in missing_parts(folder)), *cut]


def download_voc(root: Path, year: int) -> None:
    """Download and unpack a year's images for training and validation with torchvision, its checksum verified.

    Nothing is done where there are images and lists. The archive is used if it lies in ``root`` already and its
    checksum is right, without the network. What a killed download left is unpacked again; another folder in the place
    of the archive's is moved aside.

    Raises:
        SegError: no network, a checksum that does not match, a folder that cannot be written, an archive of
            something else, torchvision missing.
    """
    if is_complete(root, year):
        return
    place = unpacked_in(root)
    folder = unpacked_folder(root, year)
    try:
        if not (folder / MARKER).exists():
            move_aside(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    except OSError as error:
        raise SegError(f"cannot download to {place}: {error.strerror or error}") from error
    with downloading(f"VOC{year}", folder, _by_hand(place, year)):
        from torchvision.datasets import VOCSegmentation

        VOCSegmentation(str(place), year=str(year), image_set="train", download=True)
    (folder / MARKER).unlink(missing_ok=True)
    if missing := missing_parts(folder):
        raise SegError(f"the archive in {place} lacks {' and '.join(missing)}; delete it and try again")

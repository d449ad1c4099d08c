"""Getting Oxford-IIIT Pet: torchvision's download, and what to tell someone who has no data yet."""

import http.client
import os
import socket
from itertools import count
from pathlib import Path
from urllib.error import URLError

from seg.data.layout import FOLDER, layout_folder, missing_parts
from seg.errors import SegError

# Lies in the folder while archives are being unpacked, so that a killed download is not taken for data.
_MARKER = ".unpacking"
_SECONDS_WITHOUT_ANSWER = 30.0


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
    cut = (layout_folder(root) / _MARKER).exists()
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
        _move_aside(folder / "annotations")
        (folder / _MARKER).touch()
    except OSError as error:
        raise SegError(f"cannot download to {place}: {error.strerror or error}") from error
    _download(place)
    (folder / _MARKER).unlink(missing_ok=True)
    if missing := missing_parts(place):
        raise SegError(f"the archives in {folder} lack {', '.join(missing)}; delete them and try again")


def _download(place: Path) -> None:
    try:
        from torchvision.datasets import OxfordIIITPet
    except ImportError as error:
        raise SegError(f"data.download=true needs torchvision ({error}); or {_by_hand(place)}") from error
    again = f"try again, or {_by_hand(place)}"
    # torchvision sets no timeout: behind a firewall that drops packets it would wait for ever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_WITHOUT_ANSWER)
    try:
        OxfordIIITPet(str(place), split="trainval", download=True)
    # URLError, timeouts and refused connections are OSErrors, as is a full disk: told apart by their class.
    except (URLError, TimeoutError, ConnectionError, http.client.HTTPException, socket.gaierror) as error:
        reason = getattr(error, "reason", None) or error
        raise SegError(
            f"cannot download Oxford-IIIT Pet ({reason}): offline, or the server is away; {again}"
        ) from error
    except RuntimeError as error:
        # torchvision has no class of its own for this: "File not found or corrupted."
        what = f"{'checksum mismatch' if 'corrupted' in str(error) else 'failed'} ({error})"
        raise SegError(f"download of Oxford-IIIT Pet to {place / FOLDER}: {what}; {again}") from error
    except (OSError, EOFError) as error:
        raise SegError(f"cannot download or unpack Oxford-IIIT Pet in {place / FOLDER}: {error}") from error
    finally:
        socket.setdefaulttimeout(before)


def _move_aside(folder: Path) -> None:
    """Rename a folder to the first free ``<name>.incomplete<n>``; nothing of the user's is deleted."""
    if folder.is_dir():
        names = (folder.with_name(f"{folder.name}.incomplete{number}") for number in count())
        folder.rename(next(aside for aside in names if not os.path.lexists(aside)))

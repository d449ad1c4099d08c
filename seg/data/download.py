"""What torchvision's downloads lack: a timeout, one clear line for each trouble, a mark on what was cut off."""

import http.client
import os
import socket
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from urllib.error import URLError

from seg.errors import SegError

#: Lies in the folder while archives are being unpacked, so that a killed download is not taken for data.
MARKER = ".unpacking"
CUT_OFF = "the end of a download that was cut off"
_SECONDS_WITHOUT_ANSWER = 30.0


def fetch(
    what: str, folder: Path, aside: Path, by_hand: str, get: Callable[[], object], missing: Callable[[], Sequence[str]]
) -> None:
    """Download and unpack a data set, and turn what goes wrong into one SegError.

    Args:
        what: the data set's name. folder: where it shall lie. aside: what is moved aside first, if it is there.
        by_hand: how else to get it. get: torchvision's download. missing: the parts that are not there afterwards.
    """
    again = f"try again, or {by_hand}"
    before = socket.getdefaulttimeout()
    try:
        _move_aside(aside)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    except OSError as error:
        raise SegError(f"cannot download to {folder}: {error.strerror or error}") from error
    # torchvision sets no timeout: behind a firewall that drops packets it would wait for ever.
    socket.setdefaulttimeout(_SECONDS_WITHOUT_ANSWER)
    try:
        get()
    except ImportError as error:
        raise SegError(f"data.download=true needs torchvision ({error}); or {by_hand}") from error
    # URLError, timeouts and refused connections are OSErrors, as is a full disk: told apart by their class.
    except (URLError, TimeoutError, ConnectionError, http.client.HTTPException, socket.gaierror) as error:
        reason = getattr(error, "reason", None) or error
        raise SegError(f"cannot download {what} ({reason}): offline, or the server is away; {again}") from error
    except RuntimeError as error:
        # torchvision has no class of its own for this: "File not found or corrupted."
        trouble = f"{'checksum mismatch' if 'File not found or corrupted' in str(error) else 'failed'} ({error})"
        raise SegError(f"download of {what} to {folder}: {trouble}; {again}") from error
    except (OSError, EOFError) as error:
        raise SegError(f"cannot download or unpack {what} in {folder}: {error}") from error
    finally:
        socket.setdefaulttimeout(before)
    (folder / MARKER).unlink(missing_ok=True)
    if lacks := missing():
        raise SegError(f"the archive of {what} lacks {', '.join(lacks)}; delete it and try again")


def _move_aside(folder: Path) -> None:
    """Rename a folder to the first free ``<name>.incomplete<n>``; nothing of the user's is deleted."""
    if folder.is_dir():
        names = (folder.with_name(f"{folder.name}.incomplete{number}") for number in count())
        folder.rename(next(aside for aside in names if not os.path.lexists(aside)))

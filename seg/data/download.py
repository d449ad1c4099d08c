"""What torchvision's downloads lack: a timeout, one line for what goes wrong, a mark on what was cut off."""

import http.client
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from seg.errors import SegError

#: Lies in the folder while archives are being unpacked, so that a killed download is not taken for data.
MARKER = ".unpacking"
CUT_OFF = "the end of a download that was cut off"
_SECONDS_WITHOUT_ANSWER = 30.0


def fetch(
    what: str, folder: Path, aside: Path, by_hand: str, get: Callable[[], object], missing: Callable[[], Sequence[str]]
) -> None:
    """Download and unpack a data set; whatever goes wrong is a SegError.

    Args:
        what: the data set's name. folder: where it shall lie. aside: a folder that is renamed first, if it is there.
        by_hand: how else to get it. get: torchvision's download. missing: the parts that are not there afterwards.
    """
    before = socket.getdefaulttimeout()
    # torchvision sets no timeout: behind a firewall that drops packets it would wait for ever.
    socket.setdefaulttimeout(_SECONDS_WITHOUT_ANSWER)
    try:
        if aside.is_dir():  # nothing of the user's is deleted
            aside.rename(aside.with_name(f"{aside.name}.incomplete-{secrets.token_hex(4)}"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
        get()
        if lacks := missing():
            raise RuntimeError(f"the archive lacks {', '.join(lacks)}")
        (folder / MARKER).unlink(missing_ok=True)
    # URLError and timeouts are OSErrors; a wrong checksum is torchvision's RuntimeError.
    except (OSError, EOFError, ImportError, RuntimeError, http.client.HTTPException) as error:
        raise SegError(f"cannot download {what} to {folder} ({error}); try again, or {by_hand}") from error
    finally:
        socket.setdefaulttimeout(before)

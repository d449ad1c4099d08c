"""Data sets that torchvision downloads; added are a timeout, one line per failure, and a mark while unpacking."""

import http.client
import secrets
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from seg.data.layout import MissingDataError
from seg.data.sources import InPlace
from seg.errors import SegError
from seg.store import param

#: Lies in the folder while archives are unpacked, so that an interrupted download is not used as data.
MARKER = ".unpacking"
_TIMEOUT = 30.0  # in seconds


class Downloadable(InPlace, ABC):
    """Base of the sources that torchvision can download.

    Attributes:
        root: the folder that holds the data set's folder (or is it).
        download: fetch the data, checksums verified, if they are not there; archives in ``root`` are used.
        data_name: of the data set. archives: the files to unpack by hand, with their address.
    """

    data_name: ClassVar[str]
    archives: ClassVar[str]

    root: str = param(key=False)
    download: bool = param(default=False, key=False)

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder of the data, or where a download puts it."""

    @abstractmethod
    def missing_parts(self) -> list[str]:
        """The required parts that the folder lacks."""

    def target(self) -> tuple[Path, Path]:
        """The folder that a download fills, and the existing folder that is renamed first."""
        return self.folder, self.folder

    @abstractmethod
    def fetch(self, folder: Path) -> None:
        """Download and unpack into ``folder`` with torchvision; its errors are passed on."""

    def _missing(self) -> list[str]:
        cut_off = ["the end of a download that was cut off"] if (self.folder / MARKER).exists() else []
        return [*self.missing_parts(), *cut_off]

    def _by_hand(self) -> str:
        return f"unpack the official {self.archives} into {self.root}"

    def require(self) -> None:
        """Raise MissingDataError if a part is missing."""
        if missing := self._missing():
            raise MissingDataError(
                f"no {self.data_name} data at {self.root} (missing: {', '.join(missing)}); pass data.download=true, or "
                f"{self._by_hand()}, or point data.root elsewhere"
            )

    def acquire(self) -> None:
        """Download the data if that was asked for and a part is missing; failures are a SegError."""
        if not self.download or not self._missing():
            return
        before, (folder, aside) = socket.getdefaulttimeout(), self.target()
        # torchvision sets no timeout: behind a firewall that drops packets it would wait for ever.
        socket.setdefaulttimeout(_TIMEOUT)
        try:
            if aside.is_dir():  # nothing of the user's is deleted
                aside.rename(aside.with_name(f"{aside.name}.incomplete-{secrets.token_hex(4)}"))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MARKER).touch()
            self.fetch(folder)
            if lacks := self.missing_parts():
                raise RuntimeError(f"the archive lacks {', '.join(lacks)}")
            (folder / MARKER).unlink()
        # URLError and timeouts are OSErrors; a wrong checksum is torchvision's RuntimeError.
        except (OSError, EOFError, ImportError, RuntimeError, http.client.HTTPException) as error:
            raise SegError(
                f"cannot download {self.data_name} to {folder} ({error}); try again, or {self._by_hand()}"
            ) from error
        finally:
            socket.setdefaulttimeout(before)

"""What a machine runs out of, told in a line: libraries say it in many ways, and at length."""

import errno
from collections.abc import Iterator

from seg.errors import SegError, first_line

_MEMORY = ("out of memory", "can't allocate memory", "unable to allocate")
_SPACE = ("no space left on device", "disk quota exceeded")
_TOO_LARGE = ("file too large",)
#: PyTorch's writer tells that a write failed, not why.
_UNWRITTEN = ("pytorchstreamwriter failed writing", "] . unexpected pos ")
_CONTACT = ("gloo", "nccl", "connection reset by peer", "connection closed by peer", "socket timeout", "tcpstore")


class NoRoom(SegError):
    """A disk is full, or a file would be larger than is allowed: the next try would end alike."""


def out_of(error: BaseException, what: str, place: object, key: str = "store") -> SegError | None:
    """The refusal for an error that means no memory or no room; None if it means something else.

    Args:
        error: as it was raised. what: was being done. place: where its results go. key: which chooses another place.
    """
    if isinstance(error, SegError):  # it has said what it means
        return None
    said = " ".join(str(e) for e in _chain(error)).lower()
    if isinstance(error, MemoryError) or any(text in str(error).lower() for text in _MEMORY):
        return SegError(
            f"{what}: out of memory ({first_line(error)[:160]}); lower runtime.batch_size (inference), "
            "the training's batch_size, or data.size; what was built before is kept"
        )
    numbers = {e.errno for e in _chain(error) if isinstance(e, OSError)}
    # A file of which the error tells may lie elsewhere: the log in the run's folder, while a stage is built.
    named = next((e.filename for e in _chain(error) if isinstance(e, OSError) and isinstance(e.filename, str)), None)
    if named is not None and not named.startswith(f"{place}/"):
        place = named
    other = f"or choose another {key}=; what was built before is kept"
    unwritten = any(text in said for text in _UNWRITTEN)
    if errno.EFBIG in numbers or any(text in said for text in _TOO_LARGE):
        return NoRoom(
            f"{what}: a file in {place} would be larger than is allowed; raise that limit (ulimit -f; or it is the "
            f"file system's own), {other}"
        )
    if not numbers and unwritten and _sizes_are_limited():
        return NoRoom(
            f"{what}: a file could not be written whole in {place}, where no space is left or it would be larger "
            f"than ulimit -f allows; {other}"
        )
    if numbers & {errno.ENOSPC, errno.EDQUOT} or unwritten or any(text in said for text in _SPACE):
        remedy = "make room (python -m seg.store gc removes what no run refers to)" if key == "store" else "make room"
        return NoRoom(f"{what}: no space left for {place}; {remedy}, {other}")
    if errno.EIO in numbers or "input/output error" in said:
        return SegError(f"{what}: the disk of {place} fails (input/output error); look after it, {other}")
    return None


def no_room(error: BaseException) -> bool:
    """Whether an error, or what it came of, is a disk that is full or a file that would be too large."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return any(isinstance(e, NoRoom) or (isinstance(e, OSError) and e.errno in full) for e in _chain(error))


def _sizes_are_limited() -> bool:
    try:
        import resource
    except ImportError:  # as on Windows
        return False
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of, the newest first."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        yield error
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following


def lost_contact(error: BaseException) -> str | None:
    """What to say where one of the processes of a training no longer hears of another; None for another error.

    Gloo and NCCL say it in many lines, of addresses and ranks.
    """
    said = str(error).lower()
    if not any(text in said for text in _CONTACT):
        return None
    return (
        "runtime.devices, runtime.num_nodes: the processes that train together lost each other "
        f"({first_line(error)[:160]}): another was ended, or the machine is overloaded; "
        "see its message above, then start the run again, "
        "perhaps with fewer devices: it goes on where it was"
    )

"""What a machine runs out of, told in a line: libraries say it in many ways, and at length."""

import errno

from seg.errors import SegError, first_line

_MEMORY = ("out of memory", "can't allocate memory", "unable to allocate")
_SPACE = ("no space left on device", "disk quota exceeded", "pytorchstreamwriter failed writing", "] . unexpected pos ")
_CONTACT = ("gloo", "nccl", "connection reset by peer", "connection closed by peer", "socket timeout", "tcpstore")


def out_of(error: BaseException, what: str, store: object) -> SegError | None:
    """The refusal for an error that means no memory or no space; None if it means something else.

    Args:
        error: as it was raised. what: was being done. store: where its results go.
    """
    said = str(error).lower()
    if isinstance(error, MemoryError) or any(text in said for text in _MEMORY):
        return SegError(
            f"{what}: out of memory ({first_line(error)[:160]}); lower runtime.batch_size (inference), "
            "the training's batch_size, or data.size; what was built before is kept"
        )
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(text in said for text in _SPACE):
        return SegError(
            f"{what}: no space left for {store}; make room (python -m seg.store gc removes what no run refers to), "
            "or choose another store=; what was built before is kept"
        )
    return None


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

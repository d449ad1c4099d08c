"""The one exception a user is meant to read."""


class SegError(Exception):
    """Bad input or a bad environment: one line that says what, where, and how to mend it.

    The entrypoint prints the message without a traceback and exits with status 1.
    """


def first_line(error: BaseException) -> str:
    """What an error of some library says, in one line of at most 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]

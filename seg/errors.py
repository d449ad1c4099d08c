"""The one exception a user is meant to read."""


class SegError(Exception):
    """Bad input or a bad environment: one line that says what, where, and how to mend it.

    The entrypoint prints the message without a traceback and exits with status 1.
    """

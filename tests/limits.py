"""How much the tests of fuzz/ try, and what they hold every input to.

``SEG_FUZZ=10000 pytest tests/fuzz`` is the long form: so many mutated images, and as many examples of each property.
"""

import os
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from seg.errors import SegError

#: Inputs of each test; the short form is for every day.
COUNT = int(os.environ.get("SEG_FUZZ", "0"))

#: Of this process: what else runs on the machine is not the input's fault.
SECONDS = 5.0
MEGABYTES = 2000

#: Of every property: the same examples every day, others in the long form.
EXAMPLES = settings(
    max_examples=COUNT or 40,
    derandomize=COUNT == 0,
    deadline=None,  # `tried` has its own, of the process's time
    database=None,
    suppress_health_check=list(HealthCheck),
)


def tried(call: Callable[[], Any]) -> Any:
    """What a call returns, or None where it refuses: by a SegError, of bounded length, in time and memory."""
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result, said = None, "read"
    try:
        result = call()
    except SegError as error:
        said = str(error)
    assert 0 < len(said) < 5000
    assert time.process_time() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024 * MEGABYTES
    return result


def refused(call: Callable[[], Any], message: str) -> None:
    """A call ends in one line that has ``message`` (a pattern) in it, in time."""
    started = time.process_time()
    with pytest.raises(SegError, match=message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1000
    assert time.process_time() - started < SECONDS

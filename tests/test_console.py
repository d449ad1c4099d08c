"""A reader that goes away ends the program quietly."""

import subprocess
import sys

PROGRAM = """
import logging, sys
from seg.console import flush, handle_broken_pipe
handle_broken_pipe()
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
try:
    for i in range(100_000):
        print(f"line {i}") if {printed} else logging.info("line %d", i)
except Exception:
    sys.exit("an error of its own")
flush()
"""


def test_a_closed_pipe_is_no_error() -> None:
    for printed in ("True", "False"):
        program = PROGRAM.replace("{printed}", printed)
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "line 0\n"
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 141


def test_a_name_that_is_no_text_is_printed() -> None:
    program = "from seg.console import handle_broken_pipe; handle_broken_pipe(); print('caf\\udce9')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "caf\\udce9\n" and done.stderr == ""

"""The entrypoint within this process: a fresh one would import PyTorch for longer than most tests take."""

import contextlib
import contextvars
import io
import logging
import sys
import traceback
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

from seg import run as entrypoint

#: Overrides: the smallest data, and the smallest run on them.
TOYS = [
    "data.prepared.source.images=24",
    "data.prepared.source.breeds=2",
    "data.prepared.source.size=48",
    "data.size=64",
    "runtime.accelerator=cpu",
    "runtime.threads=1",
]
TINY = [*TOYS, "threshold=0.5", "epoch=1", "figures=false"]


def call(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the entrypoint in ``folder`` within this process: exit status, and what it printed."""
    handlers, level = logging.root.handlers[:], logging.root.level
    argv, printed = sys.argv, io.StringIO()
    sys.argv = ["seg.run"]
    GlobalHydra.instance().clear()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            contextvars.copy_context().run(entrypoint.main, list(arguments))  # which sets weights_dir
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
            printed.write("" if isinstance(stop.code, int | None) else str(stop.code))
        except Exception:  # what Python itself does of it
            status = 1
            traceback.print_exc()
    sys.argv = argv
    GlobalHydra.instance().clear()
    # Hydra sets logging up for the whole process.
    logging.root.handlers[:], train = handlers, logging.getLogger("seg.train")
    logging.root.setLevel(level)
    train.handlers[:], train.propagate = [], True
    if "joblib" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        # The next call's jobs would run in these processes, whose current folder is this one's.
        get_reusable_executor().shutdown(wait=True)
    return status, printed.getvalue()


def succeed(folder: Path, *arguments: str) -> str:
    """What a run that has to end well printed."""
    status, printed = call(folder, *arguments)
    assert status == 0, printed
    return printed

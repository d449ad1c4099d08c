"""Peak memory of a process of its own: ``python -m benchmark.peak walk 112``, ``... run pipeline=cam``.

The last line printed is JSON: megabytes before the work, and at its peak. For ``walk`` it is all resident memory;
for ``run`` the anonymous part alone: pages of files that are mapped into memory come and go as the kernel likes.
"""

import json
import resource
import sys
import threading
from pathlib import Path


def status(name: str) -> float:
    """A line of Linux's ``/proc/self/status`` in MB, nan where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(x.split()[1]) * 1024 / 1e6 for x in lines if x.startswith(f"{name}:")), float("nan"))


def resident_peak() -> float:
    """Highest resident memory of this process so far, in MB."""
    # Not getrusage first: on Linux its figure begins with that of the parent, which may have been large.
    peak = status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return peak if peak == peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Watch:
    """The largest anonymous memory while the block runs, looked at every 20 ms.

    Attributes:
        peak: MB. before: MB at the start.
    """

    def __enter__(self) -> "Watch":
        self.before = self.peak = status("RssAnon")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, status("RssAnon"))


def main(arguments: list[str]) -> None:
    """Do what the module's text says."""
    what, *rest = arguments
    if what == "walk":
        from benchmark.cases.walk import BETA, LOG_STEPS, random_case
        from seg.methods.walk import pair_offsets, random_walk

        offsets = pair_offsets(5.0)
        # A first small walk loads what PyTorch loads when it is used.
        random_walk(*random_case(8), offsets=offsets, beta=BETA, steps=2)
        before = resident_peak()
        affinity, scores = random_case(int(rest[0]))
        random_walk(affinity, scores, offsets=offsets, beta=BETA, steps=2**LOG_STEPS)
        print(json.dumps([before, resident_peak()]))
        return
    from seg.run import main as run

    with Watch() as watch:
        run(rest)
    print(json.dumps([watch.before, watch.peak]))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Peak memory of the main job with ten times the images."""

import json
from collections.abc import Iterator

from benchmark.cases import Skipped
from benchmark.lab import Lab
from benchmark.measure import Sample
from benchmark.peak import status
from benchmark.rows import Goal, Row


def run(lab: Lab) -> Iterator[Row]:
    """Drawing, preparation, trainings, CAM, walk and evaluation, each in a process and a store of its own."""
    if status("RssAnon") != status("RssAnon"):  # nan
        raise Skipped("the kernel does not tell anonymous memory (RssAnon in /proc/self/status)")
    peaks = []
    small = lab.sizes.memory_images
    for count in (small, 10 * small):
        lab.say(f"  the main job on {count} toy pictures")
        out = lab.call(
            "benchmark.peak",
            "run",
            "pipeline=cam_affinity",
            "segmenter=unet",
            "segmenter.epochs=1",
            "segmenter.input_size=64",
            "epoch=1",
            "data.refine.epochs=1",
            "runtime.progress=false",
            f"runtime.batch_size={min(lab.sizes.batch, small)}",
            f"data.prepared.source.images={count}",
            f"store='{lab.empty('store')}'",
            f"hydra.run.dir='{lab.empty('run')}'",
        )
        peaks.append(Sample((json.loads(out.splitlines()[-1])[1],), "MB"))
    yield Row(
        f"peak memory with {10 * small} images",
        peaks[1],
        f"the same with {small}",
        peaks[0],
        Goal("cost", 1.1),
        note="anonymous memory (what is memory-mapped from files is not in it) of the whole main job with a segmenter, "
        "toy pictures of 96 px, one epoch of each training",
    )

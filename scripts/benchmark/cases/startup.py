"""How long commands take that compute nothing."""

from collections.abc import Iterator

from benchmark.lab import Lab
from benchmark.measure import interleaved
from benchmark.rows import Goal, Row


def run(lab: Lab) -> Iterator[Row]:
    """Whole processes, from the shell's point of view."""
    count = lab.sizes.toy_images
    main_job = [
        "pipeline=cam_affinity",
        "epoch=1",
        "data.refine.epochs=1",
        f"data.prepared.source.images={count}",
        f"store='{lab.scratch / 'store'}'",
        f"hydra.run.dir='{lab.scratch / 'run'}'",
    ]
    dry = [a for a in main_job if not a.startswith("hydra.")]
    lab.say(f"  a first run of the main job on {count} toy pictures")
    lab.call("seg.run", *main_job)
    what, again, plan = interleaved(
        [
            lambda: lab.call("seg.run", "--help"),
            lambda: lab.call("seg.run", *main_job),
            lambda: lab.call("seg.run", *dry, "dry_run=true"),
        ],
        lab.sizes.repeats,
        warm_up=0,  # the first run has
    )
    yield Row("python -m seg.run --help", what, goal=Goal("value", 1.5))
    note = f"the main job (cam_affinity) on {count} toy pictures; figures and pictures are made again"
    yield Row("a finished run again", again, goal=Goal("value", 5), note=note)
    yield Row("dry_run=true", plan, goal=Goal("value", 3), note=f"the main job on {count} toy pictures")

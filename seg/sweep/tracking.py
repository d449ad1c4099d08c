"""The trackers of a sweep: each job is a run of its own."""

from omegaconf import DictConfig

from seg.errors import SegError, run_checks
from seg.sweep.plan import Plan
from seg.tracking.run import make_trackers


def check_trackers(config: DictConfig, plan: Plan) -> None:
    """Refuse trackers that can't work, before any job.

    Raises:
        SegError: naming them.
    """
    if "tracker" in plan.swept:
        several = ",".join(plan.swept["tracker"])
        raise SegError(f"tracker={several}: would run every job once for each; all at once is tracker=[{several}]")
    run_checks(tracker.check for tracker in make_trackers(config).values())

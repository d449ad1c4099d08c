"""Model 0 and every other sweep: plan the jobs, run each once, gather the figures, choose the best.

The work is Hydra's: its multirun, its launchers. Here is what it lacks: a folder that is found again, jobs
that are skipped when they are done, one table of all of them.
"""

from seg.sweep.plan import register

register()

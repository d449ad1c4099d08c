"""Sweeps: plan the jobs, run each once, collect the figures, choose the best.

Hydra runs the jobs. Here is what its multirun lacks: a folder that is found again, jobs that are skipped when they are
done, one table of all of them.
"""

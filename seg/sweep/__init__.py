"""Sweeps: plan the jobs, run each once, collect the figures, choose the best.

Hydra runs the jobs. This package adds what its multirun lacks: a folder that is found again, finished jobs that are
skipped, and one table of all jobs.
"""

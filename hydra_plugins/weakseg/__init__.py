"""Hydra looks for plugins in this namespace, and nowhere else."""

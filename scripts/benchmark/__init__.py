"""The bench: the core's speed as ratios against what people use today (``scripts/bench``, ``python -m benchmark``)."""

"""weakseg: segmentation masks from cheap labels."""

__version__ = "0.1.0"

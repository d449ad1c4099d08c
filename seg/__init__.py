"""weakseg: segmentation masks from cheap labels. ::

from seg import load_model, predict

model = load_model("outputs/runs/full/2026-01-31_12-00-00")  # a run's folder, or a file of weights
masks = predict(model, "photos/")  # uint8 (H, W) each, 0 background, 1 foreground, at the photos' own sizes
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg.models import load_model as load_model
    from seg.prediction import predict as predict

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """PyTorch is imported when it is asked for, not with the package."""
    if name == "load_model":
        from seg.models import load_model

        return load_model
    if name == "predict":
        from seg.prediction import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

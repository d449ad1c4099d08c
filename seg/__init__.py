"""weakseg: segmentation masks from cheap labels. ::

from seg import load_model, predict

model = load_model("outputs/runs/full/2026-01-31_12-00-00")  # a run's folder, or a file of weights
masks = predict(model, "photos/")  # uint8 (H, W) each, 0 background, 1 foreground, at the photos' own sizes
"""

from typing import TYPE_CHECKING, Any

from seg.version import __version__ as __version__

if TYPE_CHECKING:
    from seg.models.load import load_model as load_model
    from seg.models.predictor import predict as predict


def __getattr__(name: str) -> Any:
    """PyTorch is imported when it is asked for, not with the package."""
    if name == "load_model":
        from seg.models.load import load_model

        return load_model
    if name == "predict":
        from seg.models.predictor import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What networks of others return, brought to one form."""

from torch import Tensor, nn


class MainOutput(nn.Module):
    """torchvision's segmentation models return a dictionary; take ``out`` of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, 1, H, W)``."""
        out: Tensor = self.model(images)["out"]
        return out

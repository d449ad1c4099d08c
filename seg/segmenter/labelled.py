"""A segmenter that follows an image classifier."""

from torch import Tensor, nn

from seg.methods.image_labels import follow_labels
from seg.nets.backbones import make_classifier
from seg.supervision.image_labels import resized


class LabelledNetwork(nn.Module):
    """A segmenter whose foreground is of the classes that an image classifier finds (:func:`follow_labels`).

    In ``train`` mode its logits are the segmenter's own.

    Args:
        segmenter: ``float (B, 3, H, W)`` to ``float (B, 1 + K, H, W)`` logits.
        classifier: the same images to ``float (B, K)`` logits. size: side in pixels at which it sees them.
    """

    def __init__(self, segmenter: nn.Module, classifier: nn.Module, size: int) -> None:
        super().__init__()
        self.segmenter, self.classifier, self.size = segmenter, classifier, size

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.segmenter(images)
        if self.training:
            return logits
        return follow_labels(logits, self.classifier(resized(images, self.size)).to(logits.dtype))


def labelled(segmenter: nn.Module, classes: int, backbone: str, size: int) -> LabelledNetwork:
    """The network for weights that come from elsewhere: ``backbone`` is a classifier's name."""
    return LabelledNetwork(segmenter, make_classifier(backbone, classes, None), size)

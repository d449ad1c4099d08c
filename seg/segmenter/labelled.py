"""A segmenter whose classes follow an image classifier."""

from torch import Tensor, nn

from seg.methods.image_labels import follow_labels
from seg.nets.backbones import make_classifier
from seg.supervision.image_labels import resized


class LabelledNetwork(nn.Module):
    """A segmenter with class logits reweighted by an image classifier (:func:`seg.methods.follow_labels`).

    In ``train`` mode the logits are the segmenter's.

    Args:
        segmenter: ``float (B, 3, H, W)`` to ``float (B, 1 + K, H, W)`` logits.
        classifier: images to ``float (B, K)`` logits. size: side of the classifier's input in pixels.
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
    """The network for loading a checkpoint; ``backbone`` is the name of the classifier's."""
    return LabelledNetwork(segmenter, make_classifier(backbone, classes, None), size)

"""Score maps from dense image features and text embeddings in one space."""

import torch
from torch import Tensor
from torch.nn import functional as F


def text_scores(features: Tensor, classes: Tensor, background: Tensor, temperature: float = 0.01) -> Tensor:
    r"""The probability of each class at each position, against the other classes and names of the background.

    .. math:: s_c = \mathrm{softmax}_c \big( \cos(f, t_c) / \tau \big)

    as in CLIP's zero-shot classification (Radford et al., ICML 2021), position by position (Zhou et al., ECCV 2022).

    Args:
        features: ``float (C, h, w)``, of one image. classes: ``float (k, C)``, the text embeddings of its classes.
        background: ``float (b, C)``, of the background. temperature: :math:`\tau`, above 0.

    Returns:
        ``float (k, h, w)`` in [0, 1].

    Examples:
        >>> features = torch.tensor([[[3.0, 0.0]], [[0.0, 2.0]]])  # two cells, along the axes
        >>> text_scores(features, torch.eye(2)[:1], torch.eye(2)[1:]).round().tolist()
        [[[1.0, 0.0]]]
    """
    names = F.normalize(torch.cat([classes, background]), dim=1)
    cosines = torch.einsum("nc,chw->nhw", names, F.normalize(features, dim=0))
    return (cosines / temperature).softmax(0)[: len(classes)]

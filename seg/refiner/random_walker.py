"""The random walker of Grady, from confident seeds to the pixels between them."""

from typing import ClassVar

import numpy as np

from seg.refiner.by_image import ByImage, check_seeds, seeds_of
from seg.store import param


class RandomWalker(ByImage):
    """The chance that a walker who starts at a pixel meets the foreground's seeds first (Grady, TPAMI 2006).

    It steps between neighbours of like colours rather than over edges. scikit-image's ``random_walker``. (Not to be
    confused with AffinityNet's walk, :class:`seg.refiner.walk.Walk`, which spreads scores and has no seeds.)

    Attributes:
        scores: any score maps.
        background_below, foreground_from: what are seeds; they keep their side.
        beta: how much an edge hinders.
        tolerance: of the linear system's solution.
    """

    what: ClassVar[str] = "random walker"

    background_below: float = param(default=0.25, low=0, high=1)
    foreground_from: float = param(default=0.75, low=0, high=1)
    beta: float = param(default=130.0, above=0)
    tolerance: float = param(default=1e-3, above=0)

    def validate(self) -> None:
        """The right way round."""
        check_seeds(self)

    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        """Scores stay as they are without seeds of both kinds, and where the image has one colour."""
        from skimage.segmentation import random_walker

        seeds = seeds_of(scores, self.background_below, self.foreground_from)
        kinds = np.unique(seeds[seeds > 0])
        if len(kinds) < 2 or image.min() == image.max():  # the library divides by the spread of the colours
            return scores
        if seeds.all():  # and answers in another shape
            return (seeds == 2).astype(np.float32)
        chances = random_walker(
            image,
            seeds,
            beta=self.beta,
            mode="cg_j",
            tol=self.tolerance,
            prob_tol=np.inf,  # no warning: what a loose tolerance leaves outside of [0, 1] is clipped
            return_full_prob=True,
            spacing=spacing,
            channel_axis=-1,
        )
        return chances[1].clip(0, 1)

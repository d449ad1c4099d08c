"""Co-localisation: known components, a planted object, what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from seg.data.prepared import Pool
from seg.errors import SegError
from seg.methods.colocalise import Moments, class_discriminants, prior_component
from seg.store import Store
from seg.supervision.bbox import BoxScores
from seg.supervision.colocalise import Colocalised, Levels


def test_moments_are_numpys() -> None:
    rng = np.random.default_rng(0)
    features, prior = rng.normal(3, 2, (500, 4)), rng.normal(size=500)
    features[:, 1] += prior
    moments = Moments()
    for part in np.array_split(np.arange(500), 3):
        moments.add(torch.from_numpy(features[part]), torch.from_numpy(prior[part]))
    mean, spread, correlation, with_prior = (x.numpy() for x in moments.solve())
    assert np.allclose(mean, features.mean(0)) and np.allclose(spread, features.std(0))
    expected = np.corrcoef(features.T, prior)
    assert np.allclose(correlation, expected[:4, :4]) and np.allclose(with_prior, expected[:4, 4])


def test_the_component_that_goes_with_the_hint_is_not_the_first() -> None:
    rng = np.random.default_rng(1)
    size, object_, n = rng.normal(size=4000), rng.normal(size=4000), 4000
    sizes, objects = ([of + 0.1 * rng.normal(size=n) for _ in range(count)] for of, count in ((size, 5), (object_, 3)))
    features = np.stack([*sizes, *objects], 1)
    for sign in (1, -1):
        moments = Moments()
        moments.add(torch.from_numpy(features), torch.from_numpy(sign * object_ + rng.normal(size=n)))
        mean, spread, correlation, with_prior = moments.solve()
        weights = prior_component(correlation, with_prior, 3)
        scores = ((torch.from_numpy(features) - mean) / spread @ weights).numpy()
        assert np.corrcoef(scores, sign * object_)[0, 1] > 0.95
        assert scores.std() == pytest.approx(1, abs=1e-3)
        # Of the first alone there is nothing but the size to take.
        first = prior_component(correlation, with_prior, 1)
        scores = ((torch.from_numpy(features) - mean) / spread @ first).numpy()
        assert abs(np.corrcoef(scores, size)[0, 1]) > 0.95


def test_levels_come_on_the_finest_grid() -> None:
    from torchvision.models import resnet18

    model = resnet18(weights=None).eval()
    levels = Levels(model, ["layer2", "layer3"])
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        out = levels(images)
        x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        expected = model.layer2(model.layer1(x))
    assert out.shape == (2, 384, 8, 12) and levels.slices == [slice(0, 128), slice(128, 384)]
    assert torch.allclose(out[:, :128], expected, atol=1e-5)


@pytest.mark.parametrize("modules", [["layer9"], ["fc"]])
def test_a_level_that_is_none_is_refused(modules: list[str]) -> None:
    from torchvision.models import resnet18

    with pytest.raises(SegError, match=r"colocalise.levels=\["):
        Levels(resnet18(weights=None), modules)


def weights(tmp_path: Path) -> str:
    """A file of ResNet-18 weights: random, but those of a seed."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


def test_the_rest_of_the_object_is_found_from_a_part(planted: Pool, new_store: Store, tmp_path: Path) -> None:
    prior = BoxScores(pool=planted)
    options = {"scores": prior, "weights": weights(tmp_path), "levels": ["layer1"], "size": 128, "dims": 16}
    found = Colocalised(**options)  # type: ignore[arg-type]
    maps, before = new_store.get(found), new_store.get(prior)
    data = maps.data
    assert (maps.rows == before.rows).all()

    def iou(scores: np.ndarray, truth: np.ndarray) -> float:
        mask = scores >= 0.5
        return float((mask & (truth == 1)).sum() / (mask | (truth == 1)).sum())

    truth = data.truth(maps.rows)
    scores, rough = (x.argmax(np.arange(len(maps)))[0] for x in (maps, before))
    assert iou(scores, truth) > max(0.6, iou(rough, truth) + 0.1)
    assert scores.min() >= 0 and scores.max() <= 1
    manifest = new_store.manifest(found)
    assert manifest is not None and 0.02 < manifest["notes"]["foreground"] < 0.5


def test_its_name_and_what_it_refuses(planted: Pool, new_store: Store, tmp_path: Path) -> None:
    prior = BoxScores(pool=planted)
    assert Colocalised(scores=prior, weights=weights(tmp_path)).title == "co-loc. Gaussian on HEAD boxes"
    # Without a regression the map would be the components' alone, and the threshold one with the prior in it.
    with pytest.raises(SegError, match=r"Colocalised.rounds=0: must lie in \[1, inf\)"):
        Colocalised(scores=prior, weights=weights(tmp_path), rounds=0)
    with pytest.raises(SegError, match=r"colocalise.weights=null: random features"):
        Colocalised(scores=prior, weights=None).check(new_store)
    with pytest.raises(SegError, match=r"colocalise.backbone=densenet121: name the modules"):
        Colocalised(scores=prior, backbone="densenet121", weights=weights(tmp_path)).check(new_store)
    assert isinstance(Colocalised(scores=prior, weights=weights(tmp_path))._net(), nn.Module)


def test_what_one_image_shows_alone_tells_apart_what_two_show_together() -> None:
    """Images of one class teach, in closed form, which cells of an image of both are of which."""
    rng = np.random.default_rng(0)
    means = np.asarray([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
    truth = np.repeat([0, 1, 2, 0, 1, 2], 200)
    points = means[truth] + rng.normal(0, 0.5, (1200, 4))
    may = np.zeros((1200, 4), bool)
    may[np.arange(1200), truth + 1] = True
    may[600:, 1:] = True  # the last three are one image, whose cells the prior has all wrong
    named = np.where(np.arange(1200) < 600, truth, (truth + 1) % 3) + 1
    weights, bias = class_discriminants(*map(torch.from_numpy, (points.astype(np.float32), named, may)), ridge=1e-6)
    likely = torch.from_numpy(points).float() @ weights + bias
    assert torch.isneginf(bias[0]) and (likely[600:].argmax(1).numpy() == truth[600:] + 1).mean() > 0.95
    library = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(points, likely.argmax(1))
    np.testing.assert_array_equal(library.predict(points), likely.argmax(1))


def test_classes_without_a_cell_and_cells_without_a_class() -> None:
    points, may = torch.ones(3, 2), torch.zeros(3, 4, dtype=torch.bool)
    weights, bias = class_discriminants(points, torch.tensor([1, 2, 3]), may)
    assert weights.shape == (2, 4) and bool(torch.isneginf(bias).all())
    may[0, 2] = True
    assert int((points @ class_discriminants(points, torch.tensor([1, 2, 3]), may)[0]).isnan().sum()) == 0

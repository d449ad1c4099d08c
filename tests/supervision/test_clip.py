"""CLIP against open_clip's own forward pass, with random weights of a tiny configuration."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from within import succeed

from seg.data.prepared import Pool, Prepared, PreparedData
from seg.errors import SegError
from seg.nets.augment import normalise
from seg.nets.clip import CLIP
from seg.store import Store
from seg.supervision.clip import TextScores

open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed (the extra clip)")
TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A file of weights of the network ``tiny-clip``, which open_clip knows meanwhile."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**open_clip.get_model_config("tiny-clip")).state_dict(), folder / "tiny.pt")
    yield str(folder / "tiny.pt")
    open_clip.factory._MODEL_CONFIG_PATHS.remove(folder / "tiny-clip.json")
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._rescan_model_configs()


def stage(pool: Pool, weights: str, **changed: Any) -> TextScores:
    options: dict[str, Any] = {"model": "tiny-clip", "size": 32, "background": ["grass", "sky"], "temperature": 0.1}
    return TextScores(pool=pool, weights=weights, **options | changed)


def test_dense_features_and_text_are_the_librarys(weights: str) -> None:
    model = CLIP("tiny-clip", weights, 32)
    theirs = open_clip.create_model("tiny-clip", pretrained=weights).eval()
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    images = normalise(photos)
    adapted = model.adapt(images)
    mean, std = (torch.tensor(x)[:, None, None] for x in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    torch.testing.assert_close(adapted, (torch.from_numpy(photos).permute(0, 3, 1, 2) / 255 - mean) / std)
    with torch.inference_mode():
        found = model(images)
        assert found.shape == (2, 24, 4, 4)
        # The pass without our hook is open_clip's own, before and after.
        torch.testing.assert_close(model.model.encode_image(adapted), theirs.encode_image(adapted), atol=1e-5, rtol=0)
        # By hand from open_clip's parts: the value projection of the last attention layer, in place of its mean.
        visual, block = theirs.visual, theirs.visual.transformer.resblocks[-1]
        x = visual.transformer.resblocks[0](visual._embeds(adapted))
        value = F.linear(block.ln_1(x), block.attn.in_proj_weight[128:], block.attn.in_proj_bias[128:])
        x = x + block.attn.out_proj(value)
        x = visual.ln_post(x + block.mlp(block.ln_2(x)))[:, 1:] @ visual.proj
        torch.testing.assert_close(found, x.permute(0, 2, 1).reshape(2, 24, 4, 4), atol=1e-5, rtol=0)
        templates = ["a photo of a {}.", "a {}"]
        tokens = open_clip.get_tokenizer("tiny-clip")(["a photo of a cat.", "a cat"])
        expected = F.normalize(theirs.encode_text(tokens, normalize=True).mean(0), dim=0)
        torch.testing.assert_close(model.embed(["dog", "cat"], templates)[1], expected, atol=1e-5, rtol=0)
    assert CLIP("tiny-clip", weights, 75)(images).shape == (2, 24, 9, 9)  # whole patches


def test_maps_are_of_the_images_own_classes(
    store: Store, data: PreparedData, pool: Pool, prepared: Prepared, weights: str
) -> None:
    several = Pool(data=prepared, task="classes")
    made = stage(several, weights, names=["a cat", "dog"])
    scores = store.get(made)
    assert scores.values.shape == (32, 4, 4) and scores.ids == [[1 + label] for label in data.labels]
    model = CLIP("tiny-clip", weights, 32)
    with torch.inference_mode():
        features = model(normalise(data.images[[5]]))[0]
    names = model.embed([["a cat", "dog"][data.labels[5]], "grass", "sky"], made.templates)
    cosines = torch.einsum("nc,chw->nhw", names, features / features.norm(dim=0))
    np.testing.assert_allclose(scores.values[5], (10 * cosines).softmax(0)[0], atol=1e-3)
    merged = store.get(stage(pool, weights, names=["a cat", "dog"]))
    np.testing.assert_array_equal(merged.values, scores.values)
    assert merged.ids == [[1]] * 32


def test_one_class_is_enough(weights: str, photos: Callable[..., Path], tmp_path: Path) -> None:
    """``supervision=clip`` on a folder of one class, from the command line, by names of the folder of weights."""
    root = photos("one", classes=("cat",))
    options = ["data=image_folder", f"data.root={root}", "data.size=64", "supervision=clip", "supervision.size=64"]
    options += ["supervision.model=tiny-clip", "supervision.weights=tiny.pt", f"weights_dir={Path(weights).parent}"]
    options += ["pipeline=cam", "colocalise=none", "figures=false", "runtime.accelerator=cpu", "hydra.run.dir=out"]
    said = succeed(tmp_path, *options, "export.masks=true")
    assert "CLIP" in said and "Resizing" not in said and len(list((tmp_path / "out/masks").rglob("*.png"))) > 0
    assert not list((tmp_path / "outputs/store").glob("Classifier*"))


def test_what_cannot_work_is_refused_in_a_line(
    store: Store, pool: Pool, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(match: str, **changed: Any) -> None:
        with pytest.raises(SegError, match=match) as error:
            stage(pool, **{"weights": weights, **changed}).check(store)
        assert "\n" not in str(error.value)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("open_clip.factory.CLIP", lambda **_: torch.nn.Identity())  # a large one takes seconds
    offline = r"^supervision.weights=openai: cannot download .*; offline put the folder of timm/\S+ into weights_dir"
    refused(offline, model="ViT-B-32-quickgelu", weights="openai")
    found = tmp_path / "vit_base_patch32_clip_224.openai/open_clip_model.safetensors"
    found.parent.mkdir()
    found.write_bytes(b"no weights")
    monkeypatch.setenv("SEG_WEIGHTS", str(tmp_path))
    refused(rf"weights=openai: {found} does not fit", model="ViT-B-32-quickgelu", weights="openai")
    refused(r"weights=openai: are not for model=ViT-B-32 but ViT-B-32-quickgelu", model="ViT-B-32", weights="openai")
    monkeypatch.undo()
    refused(r"^supervision.weights=nine: no such file; open_clip has none for tiny-clip", weights="nine")
    refused(r"^supervision.model=tiny-clp: .*did you mean tiny-clip", model="tiny-clp")
    refused(r"^supervision.model=RN50: its image encoder is no plain transformer", model="RN50")
    refused(r"^supervision.names: 1 names for 2 classes", names=["cat"])
    refused(r"background=\[\]", background=[])
    refused(r"each with \{\} for the name", templates=["a photo"])
    find: Callable[..., object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "open_clip" else find(name))
    refused(r"supervision=clip: needs open_clip, .* pip install 'weakseg\[clip\]'")

"""SAM, SAM-HQ, SAM 2 and EdgeTAM against transformers' own forward pass, with random weights of tiny configurations."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seg.data.prepared import Pool, PreparedData
from seg.errors import SegError
from seg.masks import Threshold
from seg.methods.prompts import best_masks, score_prompts
from seg.nets.augment import normalise
from seg.nets.sam import load_sam, prompted_masks
from seg.refiner.sam import SAM
from seg.store import Runtime, Store
from seg.supervision.mask import TargetScores
from seg.supervision.scores import ScoreMaps

transformers = pytest.importorskip("transformers", reason="transformers is not installed (the extra sam)")
SIDE = 64
SQUASHED = ("Sam2", "EdgeTam")  # the others are padded
DECODER = {"mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
PROMPTS = {"image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}


def config(kind: str) -> Any:
    if kind in SQUASHED:
        backbone: dict[str, Any] = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE]}
        backbone |= {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64]}
        backbone |= {"num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [2, 2, 2, 2]}
        backbone |= {"global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2]}
        channels = [64, 32, 16, 8]
        if kind == "EdgeTam":
            backbone = {"model_type": "timm_wrapper", "architecture": "repvit_m1", "num_classes": 2}
            backbone["model_args"] = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
            channels = [384, 192, 96, 48]
        sizes = {"backbone_channel_list": channels, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
        return getattr(transformers, f"{kind}Config")(
            vision_config={"backbone_config": backbone, **sizes, "fpn_hidden_size": 32},
            prompt_encoder_config=PROMPTS | {"hidden_size": 32},
            mask_decoder_config=DECODER | {"hidden_size": 32},
        )
    vision = {"hidden_size": 16, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": SIDE, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 32}
    prompts = PROMPTS | {"hidden_size": 32, "image_embedding_size": SIDE // 16}
    decoder = DECODER | {"hidden_size": 32} | ({"vit_dim": 16} if kind == "SamHQ" else {})
    made = getattr(transformers, f"{kind}Config")
    vision["num_pos_feats"] = 16
    return made(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with random weights, as the hub's."""
    root = tmp_path_factory.mktemp("weights")

    def write(kind: str) -> Path:
        if not (folder := root / kind).exists():
            torch.manual_seed(0)
            model = getattr(transformers, f"{kind}Model")(config(kind))
            with torch.no_grad():  # as they are drawn, masks are of one side alone
                for name, value in model.named_parameters():
                    if "hypernetworks" in name:
                        value.normal_(0, 0.5)
            model.save_pretrained(folder)
        return folder

    return write


@pytest.mark.parametrize(
    ("kind", "size"),
    [("Sam", (40, 100)), ("Sam", (60, 60)), ("SamHQ", (40, 100)), ("Sam2", (40, 100)), ("EdgeTam", (60, 60))],
)
def test_masks_are_the_librarys(weights: Callable[[str], Path], kind: str, size: tuple[int, int]) -> None:
    model, rng = load_sam(str(weights(kind))), np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8))
    boxes = torch.tensor([[2.0, 3, 20, 25], [0, 0, 31, 31]])
    points = torch.tensor([[[5.0, 6], [18, 20]], [[1, 1], [30, 2]]])
    found = prompted_masks(model, normalise(image), size, boxes, points)
    # By hand: the image as the library's own processor brings it to its input.
    scale = SIDE / max(size) if kind not in SQUASHED else 1
    height, width = (round(scale * s) for s in size) if kind not in SQUASHED else (SIDE, SIDE)
    pixels = F.interpolate(normalise(image), (height, width), mode="bilinear", antialias=True)
    pixels = F.pad(pixels, (0, SIDE - width, 0, SIDE - height))
    factor = torch.tensor([width / 32, height / 32])
    with torch.inference_mode():
        answer = model(
            pixel_values=pixels,
            input_boxes=((boxes.reshape(-1, 2) + 0.5) * factor - 0.5).reshape(1, 2, 4),
            input_points=((points + 0.5) * factor - 0.5)[None],
        )
    if kind in SQUASHED:
        expected = F.interpolate(answer.pred_masks[0], (32, 32), mode="bilinear", align_corners=False)
    else:
        post = transformers.SamImageProcessor(pad_size={"height": SIDE, "width": SIDE}).post_process_masks
        shapes = {"original_sizes": [(32, 32)], "reshaped_input_sizes": [(height, width)]}
        expected = post(answer.pred_masks, **shapes, binarize=False)[0]
    assert len(found) == 2 and found[0].shape == (answer.pred_masks.shape[2], 32, 32)
    torch.testing.assert_close(torch.stack(found), expected.sigmoid(), atol=1e-5, rtol=0)
    assert 0.01 < float((torch.stack(found) > 0.5).float().mean()) < 0.99


def test_the_stage_prompts_each_class_of_an_image_in_one_pass(
    data: PreparedData, pool: Pool, weights: Callable[[str], Path], runtime: Runtime, tmp_path: Path
) -> None:
    stage = SAM(scores=TargetScores(pool=pool), weights=str(weights("Sam")), points=2)
    assert stage.trained_on_masks and not stage.is_oracle and Threshold(scores=stage, threshold=0.5).trained_on_masks
    values = np.zeros((3, 64, 64), np.float16)
    values[0, 4:30, 4:30], values[1, 40:60, 30:60] = 0.9, 0.8  # two classes of an image; nothing of a third one
    maps = ScoreMaps(data, np.arange(3), values, np.asarray([0, 2, 2, 3]), np.asarray([1, 2, 3], np.uint8))
    calls: list[int] = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda m, i, o: calls.append(1) if type(m).__name__ == "SamVisionEncoder" else None
    )
    stage.build(tmp_path, SimpleNamespace(get=lambda _: maps, runtime=runtime))  # type: ignore[arg-type]
    hook.remove()
    assert len(calls) == 1  # nothing is prompted in the other images
    found, size = np.load(tmp_path / "scores.npy"), tuple(data.sizes[0].tolist())
    assert np.load(tmp_path / "first.npy").tolist() == [0, 2, 2, 3] and not found[2].any()
    for own, mask in zip(values[:2].astype(np.float32), found, strict=False):
        boxes, points, components = score_prompts(own, 0.5, 2, 0.01)
        prompts = (torch.from_numpy(boxes), torch.from_numpy(points))
        masks = prompted_masks(load_sam(stage.weights), normalise(data.images[[0]]), size, *prompts)
        np.testing.assert_allclose(mask, best_masks(torch.stack(masks).numpy(), own, components), atol=1e-3)


def test_weights_are_found_in_the_folder_of_weights_and_their_key_is_their_content(
    pool: Pool, weights: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = weights("Sam")
    monkeypatch.setenv("SEG_WEIGHTS", str(folder.parent))
    named, hub = (SAM(scores=TargetScores(pool=pool), weights=name) for name in ("Sam", "someone/Sam"))
    assert named.key == SAM(scores=TargetScores(pool=pool), weights=str(folder)).key != hub.key
    assert type(load_sam("someone/Sam")).__name__ == "SamModel"


def test_what_cannot_be_loaded_is_refused_in_a_line(
    store: Store, pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage = SAM(scores=TargetScores(pool=pool), weights="facebook/sam-vit-base")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SegError, match=r"^refiner.scores.weights=facebook/sam-vit-base: not .*; offline put"):
        stage.check(store)
    found: Callable[..., object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "transformers" else found(name))
    with pytest.raises(SegError, match=r"refiner=sam: needs transformers, .* pip install 'weakseg\[sam\]'"):
        stage.check(store)

"""open_clip's CLIP: dense image features and text embeddings in one space."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError, did_you_mean, first_line
from seg.files import file_sha256
from seg.nets.backbones import InputAdapter
from seg.nets.pretrained import hub_folder, hub_is_reached, own_file


def content_of_weights(stage: Any, weights: str) -> str:
    """What identifies the weights of the stage's ``model`` in a key: a file's hash, or open_clip's tag."""
    file = own_file(weights)
    return weights if file is None else f"sha256:{file_sha256(file)}"


class CLIP(nn.Module):
    """Images and names to one space.

    Args:
        name: open_clip's, such as ``ViT-B-16``; image and text transformers must be open_clip's own.
        weights: open_clip's tag, such as ``laion2b_s34b_b88k``, downloaded unless ``weights_dir`` has the folder of its
            repository by the last part of its name; or a file by path, or by its name in ``weights_dir``.
        size: side of the image encoder's input in pixels, rounded to whole patches; position embeddings are resized.

    Raises:
        SegError: an unknown name, a network of another kind, or weights that are missing, broken, of another network,
            or cannot be downloaded.
    """

    def __init__(self, name: str, weights: str, size: int) -> None:
        super().__init__()
        import open_clip

        config: dict[str, Any] | None = open_clip.get_model_config(name) if ":" not in name else None
        if config is None:
            near = did_you_mean(name, open_clip.list_models(), 3) or "; use one such as ViT-B-16"
            raise SegError(f"model={name}: open_clip has none{near}")
        vision, text = config["vision_cfg"], config["text_cfg"]
        if vision.keys() & {"timm_model_name", "attentional_pool"} or not isinstance(vision["layers"], int):
            raise SegError(f"model={name}: its image encoder is no plain transformer; use one such as ViT-B-16")
        if text.keys() & {"hf_model_name", "hf_tokenizer_name"}:
            raise SegError(f"model={name}: its text encoder is not open_clip's own; use another, such as ViT-B-16")
        published = open_clip.get_pretrained_cfg(name, weights)
        if published and bool(published.get("quick_gelu")) != bool(config.get("quick_gelu")):
            other = f"{name}-quickgelu" if published.get("quick_gelu") else name.removesuffix("-quickgelu")
            raise SegError(f"weights={weights}: are not for model={name} but {other}, which has another activation")
        side = max(1, round(size / vision["patch_size"])) * vision["patch_size"]
        file = own_file(weights) or _published_file(name, weights, published)
        logging.disable(logging.WARNING)  # open_clip reports its progress to the root logger
        try:
            with torch.random.fork_rng(devices=[]):
                self.model: Any = open_clip.create_model(name, str(file), force_image_size=side).eval()
        except Exception as error:  # of a broken file, or of another network
            raise SegError(f"weights={weights}: {file} does not fit model={name} ({first_line(error)})") from error
        finally:
            logging.disable(logging.NOTSET)
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        self.adapt = InputAdapter(published.get("mean", mean), published.get("std", std), 1, [side, side])
        self.tokenizer = open_clip.get_tokenizer(name)

    def forward(self, images: Tensor) -> Tensor:
        """Dense features ``float (B, C, h, w)`` of images ``float (B, 3, S, S)``, normalised as ImageNet's.

        As in MaskCLIP (Zhou et al., Extract Free Dense Labels from CLIP, ECCV 2022, section 3.2), each token attends
        to itself only in the last block: its projected value replaces the attention's weighted mean.
        """
        visual = self.model.visual
        images = self.adapt(images)
        count = 1 + (images.shape[2] // visual.patch_size[0]) * (images.shape[3] // visual.patch_size[1])
        alone = images.new_full((count, count), -torch.inf).fill_diagonal_(0)
        hook = visual.transformer.resblocks[-1].register_forward_pre_hook(
            lambda block, args, options: (args, options | {"attn_mask": alone}), with_kwargs=True
        )
        try:
            found = visual.forward_intermediates(images, 1, normalize_intermediates=True, intermediates_only=True)
        finally:
            hook.remove()
        return torch.einsum("bchw,cd->bdhw", found["image_intermediates"][0], visual.proj)

    @torch.inference_mode()
    def embed(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Unit vectors ``float (n, C)`` of names: the mean over templates in which the name replaces {}."""
        rows = []
        for name in names:
            tokens = self.tokenizer([template.replace("{}", name) for template in templates])
            rows.append(self.model.encode_text(tokens.to(self.model.logit_scale.device), normalize=True).mean(0))
        return F.normalize(torch.stack(rows), dim=1)


def _published_file(name: str, weights: str, published: dict[str, Any]) -> Path:
    """The file of open_clip's weights of this tag, downloaded if it is not on this machine."""
    import open_clip
    from huggingface_hub import hf_hub_download

    if not published:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise SegError(f"weights={weights}: no such file; open_clip has {tags} for {name}")
    repository = published.get("hf_hub", "").strip("/") or Path(published["url"]).name
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    folder = hub_folder(repository) or Path(os.devnull)
    if found := next((folder / file for file in names if (folder / file).is_file()), None):
        return found
    try:
        if not hub_is_reached():
            return Path(hf_hub_download(repository, names[0], local_files_only=True))  # an earlier download
        return Path(open_clip.download_pretrained(published))
    except Exception as error:  # each client has its own
        raise SegError(
            f"weights={weights}: cannot download the weights of {name} ({first_line(error)}); offline put the folder "
            f"of {repository} into weights_dir as {Path(repository).name}, or give a file"
        ) from error

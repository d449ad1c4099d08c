"""The model card of a run's networks, for people and model hubs."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from seg.config.process import choices
from seg.format import markdown
from seg.version import __version__

_HEAD = """---
library_name: weakseg
pipeline_tag: image-segmentation
license: other  # choose one that the data's licence allows
tags: [weakly-supervised-segmentation]
---

# {title}
"""

_USE = """
## Use

Install weakseg {version} and give the folder of this file:

```python
from seg import load_model, predict

masks = predict(load_model("FOLDER"), ["photo.jpg"])  # uint8 (H, W) each: {codes}
```

```bash
python -m seg.predict model=FOLDER images=photos out=masks
```
"""

_COLUMNS = {"stage": "step", "split": "split", "images": "images", "miou": "mIoU", "masks_used": "masks used to choose"}


def model_card(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown with the front matter of model hubs.

    Args:
        networks: by the name of its file without ending, what the JSON beside it says; at least one.
    """
    last = list(networks.values())[-1]
    groups = [f"{key}={value}" for key in ("supervision", "refiner", "segmenter") if (value := choices().get(key))]
    lines = [
        f"* **Data:** {last['data'] or 'unknown'}",
        f"* **Their licence:** {last['licence'] or 'unknown'}",
        f"* **Labels and method:** {', '.join(groups) or 'see the JSON files'}",
        *(["* **Uses ground truth** that weak labels do not have"] if last["oracle"] else []),
        *([f"* **Command:** `{last['command']}`"] if last["command"] else []),
        "* **Licence of the weights:** to be chosen by who publishes them",
        "",
        markdown(pd.DataFrame([_described(name, about) for name, about in networks.items()])),
    ]
    if rows := last["metrics"]:
        frame = pd.DataFrame(rows, dtype=object).reindex(columns=list(_COLUMNS)).rename(columns=_COLUMNS)
        lines += ["## Metrics", "", markdown(frame)]
    text = _HEAD.format(title=f"{last['role'].capitalize()} trained on {last['data'] or 'unknown data'}")
    text += "\n" + "\n".join(lines)
    if last["role"] == "segmenter":
        codes = ", ".join(f"{code} {name}" for code, name in enumerate(last["classes"][:4]))
        text += _USE.format(version=__version__, codes=codes + (", ..." if len(last["classes"]) > 4 else ""))
    return text


def _described(name: str, about: Mapping[str, Any]) -> dict[str, str]:
    """A network as a row of the card."""
    what = about["architecture"].get("class") or about["architecture"].get("backbone", "")
    classes = ", ".join(about["classes"][:20]) + (", ..." if len(about["classes"]) > 20 else "")
    network, size = f"{about['role']}: {what}", f"{about['input_size']} px"
    return {"file": f"`{name}.safetensors`", "network": network, "input": size, "classes": classes}

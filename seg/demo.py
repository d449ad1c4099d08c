"""``python -m seg.demo model=RUN``: a page in the browser that shows a segmenter's prediction for a photo."""

import argparse
import sys
from html import escape
from typing import Any

import numpy as np

from seg.errors import SegError, entrypoint
from seg.models.load import Model, load_model
from seg.models.predictor import predict_each
from seg.predict import Parser, count, path
from seg.report.pictures import FOREGROUND, class_key, overlay, score_overlay


def pictures(model: Model, photo: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """What the page shows for a photo ``uint8 (H, W, 3)``.

    Returns:
        ``uint8 (H, W, 3)`` each: the mask over the photo, the scores, and the doubt ``1 - |2 score - 1|``;
        and the areas as HTML.

    Raises:
        SegError: no such image, or the network answers with NaN.
    """
    (found,) = predict_each(model, [photo])
    if isinstance(found, SegError):
        raise found
    mask, doubt = found.mask(threshold), 1 - abs(2 * found.scores - 1)
    key = class_key(model.names) if model.classes else FOREGROUND
    legend = [(name, colour, (mask == code).mean()) for code, name, colour in key.legend]
    areas = [f"<b style='color:{colour}'>■</b> {escape(name)} {area:.1%}" for name, colour, area in legend if area > 0]
    text = " &emsp; ".join([*areas, f"mean doubt {doubt.mean():.3f}"])
    return overlay(photo, mask, key=key), score_overlay(photo, found.scores), score_overlay(photo, doubt), text


def page(model: Model) -> Any:
    """The page, a ``gradio.Blocks``. Raises SegError: Gradio is not installed."""
    try:
        import gradio as gr
    except ImportError as error:
        raise SegError("seg.demo: needs Gradio; pip install 'weakseg[demo]'") from error

    def show(photo: np.ndarray | None, threshold: float) -> list[Any]:
        if photo is None:
            return [None, None, None, ""]
        try:
            return list(pictures(model, photo, threshold))
        except SegError as error:
            raise gr.Error(str(error)) from error

    with gr.Blocks(title="weakseg", analytics_enabled=False) as blocks:
        trained = f"{', '.join(model.names)}; trained on {model.info.get('data') or 'data unknown'}"
        gr.HTML(f"<h2>weakseg: {escape(str(model.path))}</h2>{escape(trained)}")
        shown: dict[str, Any] = {"interactive": False, "buttons": ["download", "fullscreen"]}
        with gr.Row():
            photo = gr.Image(label="photo", type="numpy", image_mode="RGB", sources=["upload", "clipboard"])
            mask = gr.Image(label="mask", **shown)
        with gr.Row():
            scores = gr.Image(label="score: 0 dark, 1 bright", **shown)
            doubt = gr.Image(label="doubt: bright where the score is near 0.5", **shown)
        threshold = gr.Slider(0.01, 1, 0.5, step=0.01, label="threshold")
        areas = gr.HTML()
        changes = [photo.change, threshold.release]
        gr.on(changes, show, [photo, threshold], [mask, scores, doubt, areas], api_name="predict")
    return blocks


def parse(arguments: list[str]) -> argparse.Namespace:
    """Arguments ``key=value``. Raises SegError, naming what is wrong."""
    parser = Parser("python -m seg.demo", description="weakseg: try a segmenter in the browser.", allow_abbrev=False)
    add = parser.add_argument
    add("--model", type=path, required=True, metavar="RUN", help="a run's folder, or a file of weights")
    add("--port", type=count, default=7860, metavar="N", help="of http://127.0.0.1 (7860)")
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="device to run on (auto)")
    add("--input_size", type=count, metavar="N", help="side in pixels of the network's input")
    add("--network", metavar="CLASS", help="of a file of weights without a description, or your own MODULE.CLASS")
    return parser.parse(arguments)


@entrypoint()
def main(arguments: list[str] | None = None) -> None:
    """Console entrypoint; ``arguments`` default to the command line's."""
    request = parse(sys.argv[1:] if arguments is None else arguments)
    blocks = page(load_model(request.model, request.device, request.input_size, request.network))
    import gradio as gr

    # System fonts: the page fetches nothing from other servers.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        blocks.launch(server_port=request.port, theme=theme)
    except OSError as error:
        raise SegError(f"port={request.port}: is taken; choose another") from error


if __name__ == "__main__":
    main()

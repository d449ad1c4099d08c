"""The page to try a model: what it shows, and in a browser where there is one."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from seg import demo
from seg.errors import SegError
from seg.models.load import load_model
from seg.models.predictor import predict


def test_pictures_are_those_of_predict(run_of_classes, photo):
    model = load_model(run_of_classes[0], "cpu")
    shown, scores, doubt, areas = demo.pictures(model, photo, 0.5)
    assert shown.shape == scores.shape == doubt.shape == photo.shape
    (score,) = predict(model, photo, scores=True)
    assert f"{(1 - abs(2 * score - 1)).mean():.3f}" in areas
    for threshold in (float(score.min()), float(np.median(score)), float(score.max()) + 1e-3):
        (mask,) = predict(model, photo, threshold=threshold)
        areas = demo.pictures(model, photo, threshold)[3]
        named = [f"{name} {(mask == code).mean():.1%}" for code, name in enumerate(model.names) if (mask == code).any()]
        assert re.findall(r"</b> (.*?) &emsp;", areas) == named
        assert ("background" in areas, "background 100.0%" in areas) == (mask.min() == 0, mask.max() == 0)
    assert mask.max() == 0  # above all scores
    with pytest.raises(SegError, match="float64"):
        demo.pictures(model, photo / 255, 0.5)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_in_a_browser(run_of_classes, photo, tmp_path):
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    Image.fromarray(photo).save(tmp_path / "photo.png")
    blocks = demo.page(load_model(run_of_classes[0], "cpu"))
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        with playwright.sync_playwright() as play:
            page = play.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(url)
            page.set_input_files("input[type=file]", tmp_path / "photo.png")
            page.get_by_text("mean doubt").wait_for(timeout=60_000)
            page.wait_for_function("document.querySelectorAll('img[src*=file]').length >= 3")
            others = [u for u in asked if u.startswith("http") and not u.startswith(url)]
            assert not others, "the page asks other machines"
    finally:
        blocks.close()

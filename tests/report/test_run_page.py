"""report.html: what it says and what it shows."""

import html
import json
import re

import numpy as np
import pandas as pd
import pytest
from within import TOYS
from within import succeed as run

from seg.supervision.mask import read_ids

TINY = [*TOYS, "threshold=0.5", "epoch=1", "evaluation.panel=0"]
UNET = ["segmenter=unet", "segmenter.epochs=1", "segmenter.net.width=4", "segmenter.net.depth=2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run that has seeds and a prediction."""
    here = tmp_path_factory.mktemp("run")
    printed = run(here, *TINY, *UNET, "hydra.run.dir=out")
    assert "out/report.html" in printed
    return here / "out"


def text_of(path):
    """The page without its pictures."""
    return re.sub(r"data:image/[^\"]*", "", path.read_text())


def tables_of(page):
    """The page's tables, as text."""
    tables = []
    for table in re.findall("<table.*?</table>", page.read_text(), re.DOTALL):
        rows = re.findall("<tr.*?</tr>", table, re.DOTALL)
        head, *body = ([html.unescape(x) for x in re.findall("<t[hd]>(.*?)</t[hd]>", row)] for row in rows)
        tables.append(pd.DataFrame(body, columns=head))
    return tables


def test_it_has_the_table_of_figures_and_the_command(made):
    page = made / "report.html"
    (figures,) = tables_of(page)
    expected = pd.read_csv(made / "metrics.csv")
    for heading, key in (("stage", "stage"), ("images", "images"), ("mIoU", "miou"), ("fg", "iou_foreground")):
        assert figures[heading].tolist() == [
            x if isinstance(x, str) else f"{x:.4f}" if x < 1 else f"{x}" for x in expected[key]
        ]
    text = text_of(page)
    assert "python -m seg.run " + " ".join([*TINY, *UNET]) in text and "the worst come first" in text
    # Nothing has to be fetched.
    assert not re.search(r"(src|href)=\"(?!#|\"|data:)", text)
    assert not re.search("url\\(|@import|https?:|<script", text) and "default-src 'none'" in text


def test_the_iou_of_each_class_and_true_masks_that_are_in_no_figure_of_trainval(made):
    printed = run(made.parent, *TINY, *UNET, "task=classes", "labelled.count=4", "hydra.run.dir=classes")
    folder = made.parent / "classes"
    figures, ious = tables_of(folder / "report.html")
    rows = pd.read_csv(folder / "classes.csv").query("stage == 'PlainUNet prediction' and split == 'test'")
    assert ious["class"].tolist() == rows["class"].tolist() and len(ious) == 3
    assert ious["IoU"].tolist() == ["–" if np.isnan(x) else f"{x:.4f}" for x in rows["iou"]]
    assert "classes" in figures and not (made / "classes.csv").exists()
    assert "true masks: 4, of trainval images that are left out of trainval's figures" in printed
    assert len(read_ids(folder / "true_masks.txt")) == 4
    assert "ground truth of 4 trainval images was learnt from; no figure is of them" in text_of(folder / "report.html")
    both = [json.loads((one / "metrics.json").read_text()) for one in (made, folder)]
    assert "true_masks" not in both[0]["header"] and "true_masks.txt" not in text_of(made / "report.html")
    assert (both[1]["header"]["true_masks"], both[1]["header"]["share"]) == (4, 0.3)
    old, new = ({(row["stage"], row["split"]): row["images"] for row in one["rows"]} for one in both)
    assert new == {key: images - (4 if key[1] == "trainval" else 0) for key, images in old.items()}

"""ONNX: another runtime's scores, for batches and sizes that the export never saw."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import seg
from seg.errors import SegError
from seg.models import onnx as onnx_export
from seg.models.load import Model
from seg.models.onnx import check_onnx, export_onnx
from seg.nets.augment import MEAN, STD
from seg.segmenter.architectures import BackboneUNet, PlainUNet, SMPNetwork
from seg.version import __version__

MISSING = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"the extra onnx is not installed: {', '.join(MISSING)}")


def model(net, tmp_path, classes=()):
    torch.manual_seed(0)
    network = net.make(1 + len(classes))
    with torch.no_grad():  # or all scores would be near to 0.5
        head = network.head if hasattr(network, "head") else network.segmentation_head[0]
        head.weight.mul_(20)
    info = {"data": "drawn"}
    return Model(network.eval(), torch.device("cpu"), 64, 32, MEAN, STD, info, tmp_path / "m.pth", "", classes)


@needs_onnx
@pytest.mark.parametrize(
    ("net", "classes"),
    [
        (BackboneUNet(weights=None, width=2), ()),
        (PlainUNet(width=2, depth=2), ("cat", "dog")),
        (SMPNetwork(arch="FPN", weights=None), ("cat", "dog")),
    ],
    ids=["foreground", "classes", "smp"],
)
def test_scores_are_pytorchs_at_any_batch_and_size(net, classes, tmp_path):
    import onnxruntime

    made, path = model(net, tmp_path, classes), tmp_path / "models/net.onnx"
    assert 0 <= export_onnx(made, path) < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 64), (4, 3, 33, 47)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        (found,) = session.run(["scores"], {"images": images.numpy()})
        with torch.inference_mode():
            logits = made.network(images)
        expected = (logits.softmax(1) if classes else logits.sigmoid()).numpy()
        assert expected.std() > 0.01
        np.testing.assert_allclose(found, expected, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["mean"]) == list(MEAN) and json.loads(metadata["std"]) == list(STD)
    assert json.loads(metadata["classes"]) == ["background", *(classes or ["foreground"])]
    assert json.loads(metadata["size"]) == 32 and metadata["version"] == __version__
    assert json.loads(metadata["weakseg"]) == {"data": "drawn"}
    assert str(Path(seg.__file__).parent).encode() not in path.read_bytes()  # nothing tells where it was made


@needs_onnx
def test_an_export_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_difference", lambda *_: 0.1)
    with pytest.raises(SegError, match=r"differ from PyTorch's by 0\.1"):
        export_onnx(model(PlainUNet(width=2, depth=1), tmp_path), tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_what_is_missing_is_one_line(monkeypatch):
    real = importlib.util.find_spec

    def find(name, *rest):
        return None if name == "onnxruntime" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(SegError, match=r"needs .*onnxruntime.*pip install 'weakseg\[onnx\]'"):
        check_onnx(True)
    with pytest.raises(SegError, match="no segmenter to export; add segmenter=unet"):
        check_onnx(False)

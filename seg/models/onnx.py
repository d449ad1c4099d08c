"""Exports a trained segmenter to ONNX, and checks it against PyTorch."""

import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg.errors import SegError, first_line
from seg.files import atomic_path
from seg.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from seg.models.load import Model

#: Largest difference to PyTorch's scores in [0, 1] that is accepted.
TOLERANCE = 1e-3


def check_onnx(has_segmenter: bool) -> None:
    """Check that an export is possible.

    Raises:
        SegError: there is no segmenter to export, or the extra is missing.
    """
    if not has_segmenter:
        raise SegError("export.onnx=true: this run has no segmenter to export; add segmenter=unet")
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise SegError(
            f"export.onnx=true: needs {', '.join(missing)}, which are not installed: pip install 'weakseg[onnx]'"
        )


def export_onnx(model: "Model", path: Path) -> float:
    """Write a segmenter as ONNX with any batch and any size.

    The input ``images`` is ``float32 (B, 3, H, W)``, RGB in [0, 1] less the mean, over the standard deviation; the
    output ``scores`` is ``float32 (B, 1, H, W)``, the foreground's probability, or of a model with classes
    ``float32 (B, C + 1, H, W)``, those of the background and of each class, which add up to 1. The metadata hold
    ``mean``, ``std``, ``classes`` (names from the background's on), ``size`` (the side that it was trained at),
    ``version`` and the rest of the model's JSON.

    Args:
        model: of :func:`seg.models.load.load_model`. path: the file.

    Returns:
        The largest difference of a score to PyTorch's, over random images of two batches and sizes.

    Raises:
        SegError: the network cannot be exported, or ONNX Runtime's scores differ.
    """
    import onnx
    import torch

    check_onnx(True)
    last = torch.nn.Softmax(1) if model.classes else torch.nn.Sigmoid()
    network = torch.nn.Sequential(model.network, last).cpu().eval().to(memory_format=torch.contiguous_format)
    side = model.input_size
    dims = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=32), 3: torch.export.Dim("width", min=32)}
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # they log every step
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                network,
                (torch.zeros(2, 3, side, side + 32),),
                input_names=["images"],
                output_names=["scores"],
                dynamic_shapes=(dims,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        proto = program.model_proto
        for node in proto.graph.node:  # the exporter writes local paths into them
            del node.metadata_props[:]
        metadata = {"mean": model.mean, "std": model.std, "classes": model.names, "size": side, "weakseg": model.info}
        texts = {key: json.dumps(value) for key, value in metadata.items()}
        onnx.helper.set_model_props(proto, texts | {"version": __version__})
        content = bytes(proto.SerializeToString())
        largest = _difference(network, content, side)
    except Exception as error:  # the exporter and ONNX Runtime raise many kinds
        what = type(model.network).__name__
        raise SegError(f"export.onnx=true: {what} cannot be exported ({first_line(error)})") from error
    model.network.to(model.device)
    if not largest <= TOLERANCE:
        raise SegError(f"export.onnx=true: ONNX Runtime's scores differ from PyTorch's by {largest:.2g}; not written")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as tmp:
        tmp.write_bytes(content)
    return largest


def _difference(network: "nn.Module", content: bytes, side: int) -> float:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    # A third shape of odd sides: neither those of the export nor multiples of anything.
    for shape in ((1, 3, side, side), (3, 3, side + 64, side), (2, 3, 75, 101)):
        images = torch.randn(shape, generator=generator)
        with torch.inference_mode():
            expected = network(images).numpy()
        (found,) = session.run(["scores"], {"images": images.numpy()})
        largest = max(largest, float(abs(found - expected).max())) if found.shape == expected.shape else float("inf")
    return largest

"""``python -m seg.predict model=... images=... out=...``: masks of a folder of photos, as files."""

import contextlib
import dataclasses
import difflib
import os
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seg.errors import SegError, interruptible
from seg.files import atomic_path, read_json, writable, write_json
from seg.models.png import PNGKind, save_png
from seg.store.parameters import coerce

if TYPE_CHECKING:
    import numpy as np

    from seg.models.load import Model

HELP = """weakseg: masks of images with a trained segmenter.
python -m seg.predict model=RUN_FOLDER|FILE images=FILE|FOLDER|'GLOB' out=FOLDER [key=value ...]

  out/masks/NAME.png       a mask per image at its own size; NAME is its path below the folder
  format=png255            png255 (0 and 255), png01 (0 and 1), or palette (0 and 1, in colour)
  threshold=0.5            foreground from this probability on
  overlays=true            out/overlays/NAME.jpg: the mask over the photo
  scores=true              out/scores/NAME.png: the foreground's probability, 16 bits, 65535 is 1
  overwrite=true           do again what is there; without it, it is skipped
  batch_size=16            images per forward pass
  device=auto              auto, cpu, cuda or mps
  workers=N threads=N      threads that decode images; threads of PyTorch's CPU operators
  input_size=N             side in pixels that the network sees; needed without a JSON beside it

Unreadable files are named at the end, the others are done; the exit status is then 1.
A run's folder has models/segmenter.safetensors; other weights (.pth, .safetensors) are recognised."""


@dataclass
class Request:
    """The arguments, by their names."""

    model: str
    images: str
    out: str
    format: PNGKind = "png255"
    threshold: float = 0.5
    overlays: bool = False
    scores: bool = False
    overwrite: bool = False
    batch_size: int = 16
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int | None = None
    threads: int | None = None
    input_size: int | None = None


def parse(arguments: list[str]) -> Request:
    """Arguments ``key=value`` to a request.

    Raises:
        SegError: naming every argument that is wrong.
    """
    hints = typing.get_type_hints(Request)
    fields = {f.name: f for f in dataclasses.fields(Request)}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for argument in arguments:
        key, sign, text = argument.partition("=")
        if not sign or key not in fields:
            close = difflib.get_close_matches(key, fields, 1)
            near = f", did you mean {close[0]}=?" if close else "; --help shows them all"
            problems.append(f"{argument}: no such argument{near}" if sign else f"{argument}: give key=value{near}")
            continue
        try:
            # Names stay as they are typed; but no shell expands a ~ behind a =.
            value: Any = os.path.expanduser(text) if hints[key] is str else coerce(_value(text), hints[key])
            if value == "":
                raise ValueError("must not be empty")
            if key == "threshold" and not 0 < value <= 1:
                raise ValueError("must lie in (0, 1]")
            if type(value) is int and value < 1:
                raise ValueError("must be at least 1")
        except ValueError as error:
            problems.append(f"{argument}: {error}")
        else:
            values[key] = value
    missing = [f"{k}=" for k, f in fields.items() if f.default is dataclasses.MISSING and k not in values]
    if missing and not problems:
        problems.append(f"{' '.join(missing)} missing; --help shows all arguments")
    if problems:
        raise SegError("; ".join(problems))
    return Request(**values)


def _value(text: str) -> Any:
    """A number, a truth value or nothing where it reads as one, else the text."""
    with contextlib.suppress(ValueError):
        return float(text)
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)


def run(request: Request) -> list[str]:
    """Predict what was requested and is not there yet.

    Returns:
        The unreadable files, a line each.

    Raises:
        SegError: for a model, images or a folder that can't be used, before any work.
    """
    from seg.models.load import load_model
    from seg.models.predictor import find_images, predict_each
    from seg.store import Runtime

    out = Path(request.out)
    if not writable(out):
        raise SegError(f"out={out}: cannot be written to; choose another folder")
    found = find_images(request.images)
    runtime = Runtime(accelerator=request.device, workers=request.workers, threads=request.threads)
    model = load_model(request.model, request.device, request.input_size)
    todo = [(path, _targets(request, out, name)) for path, name in found]
    if not request.overwrite:
        todo = [(path, targets) for path, targets in todo if not all(t.exists() for t in targets.values())]
    skipped = len(found) - len(todo)
    bad = []
    runtime.start()
    results = predict_each(
        model, [path for path, _ in todo], batch_size=request.batch_size, workers=runtime.worker_count
    )
    try:
        _remember(request, model, out)
        for (path, targets), result in zip(todo, runtime.bar(results, "predicting", len(todo)), strict=True):
            try:
                if isinstance(result, SegError):
                    raise result
                _write(request, path, result, targets)
            except SegError as error:
                bad.append(str(error))
    except OSError as error:
        raise SegError(f"out={out}: cannot be written to ({error.strerror}); the rest was not done") from error
    there = f", {skipped} were there already (overwrite=true does them again)" if skipped else ""
    print(f"{len(todo) - len(bad)} of {len(found)} images: {out}/masks{there}")
    return bad


def _remember(request: Request, model: "Model", out: Path) -> None:
    """One folder holds the results of one model: what is skipped has to be what would have been made."""
    from seg.models.predictor import MARK

    mark = out / MARK
    now = {"model": model.sha256, "threshold": request.threshold, "format": request.format}
    now["input_size"] = model.input_size
    before = read_json(mark) or now
    other = [k for k, v in now.items() if before.get(k) != v]
    if other and not request.overwrite:
        raise SegError(
            f"out={out}: holds results of another {' and '.join(other)}; choose another folder, or overwrite=true"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(mark, now)


def _targets(request: Request, out: Path, name: Path) -> dict[str, Path]:
    """The files of one image, the mask last: it tells that the others are there."""
    kinds = {"overlays": "jpg"} if request.overlays else {}
    kinds |= {"scores": "png"} if request.scores else {}
    kinds["masks"] = "png"
    return {kind: out / kind / name.with_name(f"{name.name}.{suffix}") for kind, suffix in kinds.items()}


def _write(request: Request, photo: Path, scores: "np.ndarray", targets: dict[str, Path]) -> None:
    import numpy as np
    from PIL import Image

    from seg.data.decode import decode_image
    from seg.masks import threshold_scores
    from seg.report.pictures import overlay

    mask = threshold_scores(scores, request.threshold, request.threshold)
    for kind, path in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as tmp:
            if kind == "masks":
                save_png(tmp, mask, request.format)
            elif kind == "scores":
                Image.fromarray(np.rint(scores * 65535).astype(np.uint16)).save(tmp, format="PNG")
            else:
                Image.fromarray(overlay(decode_image(photo)[0], mask)).save(tmp, format="JPEG")


@interruptible()
def main(arguments: list[str] | None = None) -> None:
    """Console entrypoint; ``arguments`` default to the command line's."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or any(a in ("-h", "--help", "help") for a in arguments):
        print(HELP)
        sys.exit(0 if arguments else 2)
    try:
        bad = run(parse(arguments))
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if bad:
        print(f"error: {len(bad)} unreadable: " + "; ".join(bad), file=sys.stderr)
        sys.exit(1)


class _CallableModule(types.ModuleType):
    """``seg.predict`` names this module as well as the function of ``from seg import predict``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from seg.models.predictor import predict

        return predict(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()

"""``python -m seg.predict model=... images=... out=...``: masks of a folder of photos, as files."""

import contextlib
import dataclasses
import difflib
import errno
import json
import os
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seg.console import handle_broken_pipe
from seg.errors import SegError, interruptible
from seg.files import atomic_path, file_sha256, read_json, writable, write_json
from seg.models.png import CLASSES, PNGKind, save_indexed, save_png, write_classes
from seg.nets.given import LARGEST_SIDE
from seg.store.parameters import coerce

if TYPE_CHECKING:
    from seg.models.load import Model
    from seg.models.predictor import Answer

HELP = """weakseg: masks of images with a trained segmenter.
python -m seg.predict model=RUN_FOLDER|FILE images=FILE|FOLDER|'GLOB' out=FOLDER [key=value ...]

  out/masks/NAME.png       a mask per image at its own size; NAME is its path below the folder
  format=png255            png255 (0 and 255), png01 (0 and 1), or palette (0 and 1, in colour);
                           of a model with classes palette: 0, and the numbers of out/classes.txt
  threshold=0.5            foreground from this probability on; a class, as a share of its
                           probability and the background's: 0.5 is the likeliest
  overlays=true            out/overlays/NAME.jpg: the mask over the photo
  scores=true              out/scores/NAME.png: that probability or share, 16 bits, 65535 is 1
  overwrite=true           do again what is there; without it, it is skipped
  batch_size=16            images per forward pass
  device=auto              auto, cpu, cuda or mps
  workers=N threads=N      threads that decode images; threads of PyTorch's CPU operators
  input_size=N             side in pixels that the network sees; needed without a JSON beside it
  network=MODULE.CLASS     a network of your own, which is imported; weakseg's own need none

Unreadable files are named at the end, the others are done; the exit status is then 1.
A name of which there is the mask of another photo is refused, unless it is to be overwritten.
A run's folder has models/segmenter.safetensors; other weights (.pth, .safetensors) are recognised."""


@dataclass
class Request:
    """The arguments, by their names."""

    model: str
    images: str
    out: str
    format: PNGKind | None = None
    threshold: float = 0.5
    overlays: bool = False
    scores: bool = False
    overwrite: bool = False
    batch_size: int = 16
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int | None = None
    threads: int | None = None
    input_size: int | None = None
    network: str | None = None


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
            typed = hints[key] in (str, str | None)
            value: Any = os.path.expanduser(text) if typed else coerce(_value(text), hints[key])
            if value == "":
                raise ValueError("must not be empty")
            if key == "threshold" and not 0 < value <= 1:
                raise ValueError("must lie in (0, 1]")
            if type(value) is int and value < 1:
                raise ValueError("must be at least 1")
            if key == "input_size" and value is not None and value > LARGEST_SIDE:
                raise ValueError(f"must be at most {LARGEST_SIDE}")
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
    from seg.data.layout import TOO_LONG, too_long
    from seg.models.load import load_model
    from seg.models.predictor import find_images, predict_each
    from seg.store import Runtime

    out = Path(request.out)
    if not writable(out):
        raise SegError(f"out={out}: cannot be written to; choose another folder")
    found = find_images(request.images)
    runtime = Runtime(accelerator=request.device, workers=request.workers, threads=request.threads)
    model = load_model(request.model, request.device, request.input_size, request.network)
    request = dataclasses.replace(request, format=_format(request, model))
    photos = Photos(out)
    todo = [(path, _targets(request, out, name)) for path, name in found]
    if not request.overwrite:
        photos.refuse_others([(path, targets["masks"]) for path, targets in todo if targets["masks"].exists()])
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
                if too_long(path.name):
                    raise SegError(f"{path}: {TOO_LONG}")
                photos.add(path, targets["masks"])
                _write(request, path, result, targets, model.names)
            except SegError as error:
                bad.append(str(error))
    except OSError as error:
        raise SegError(f"out={out}: cannot be written to ({error.strerror}); the rest was not done") from error
    there = f", {skipped} were there already (overwrite=true does them again)" if skipped else ""
    print(f"{len(todo) - len(bad)} of {len(found)} images: {out}/masks{there}")
    return bad


def _format(request: Request, model: "Model") -> PNGKind:
    if model.classes and request.format not in (None, "palette"):
        raise SegError(
            f"format={request.format}: tells no classes apart, and this model does ({len(model.classes)}); leave it "
            "out for palette, indexed PNG"
        )
    return request.format or ("palette" if model.classes else "png255")


def _remember(request: Request, model: "Model", out: Path) -> None:
    """One folder holds the results of one model: what is skipped has to be what would have been made."""
    from seg.models.predictor import MARK

    mark = out / MARK
    now = {"model": model.sha256, "threshold": request.threshold, "format": request.format}
    now["input_size"] = model.input_size
    try:
        before = read_json(mark)
        before = now if before is None else before
        if not isinstance(before, dict):
            raise ValueError("no record")
    except (OSError, ValueError) as error:
        if not request.overwrite:
            raise SegError(
                f"{mark}: is damaged, so nobody knows of which model the results are; choose another folder, or "
                "overwrite=true"
            ) from error
        before = now
    other = [k for k, v in now.items() if before.get(k) != v]
    if other and not request.overwrite:
        raise SegError(
            f"out={out}: holds results of another {' and '.join(other)}; choose another folder, or overwrite=true"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(mark, now)
    if model.classes:
        write_classes(out / CLASSES, model.names)


class Photos:
    """Which photo each mask of a folder is of, by its content: names come again, in other folders and after changes."""

    def __init__(self, out: Path) -> None:
        from seg.models.predictor import PHOTOS

        self.out, self.path = out, out / PHOTOS
        self.known: dict[str, str] = {}
        text = ""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            text = self.path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            with contextlib.suppress(ValueError, TypeError, RecursionError):  # cut off, or not ours
                name, digest = json.loads(line)
                self.known[str(name)] = str(digest)
        self._before = "\n" if text and not text.endswith("\n") else ""  # after a line that was cut off

    def refuse_others(self, there: list[tuple[Path, Path]]) -> None:
        """Refuse masks that are of other photos than those of their names now; ``there`` has photos and masks."""
        others = [mask for photo, mask in there if self.known.get(self._name(mask)) != _content(photo)]
        if others:
            some = ", ".join(self._name(mask) for mask in others[:3]) + (", ..." if len(others) > 3 else "")
            raise SegError(
                f"out={self.out}: {len(others)} of its masks are of other photos than those of these names now, or "
                f"nobody knows of which ({some}); choose another folder, or overwrite=true"
            )

    def add(self, photo: Path, mask: Path) -> None:
        """Write down of which photo a mask will be, before it is written."""
        name, digest = self._name(mask), _content(photo)
        if self.known.get(name) == digest:
            return
        mask.unlink(missing_ok=True)  # of the photo before: it must not be taken for this one's
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._before + json.dumps([name, digest]) + "\n")
        self._before = ""
        self.known[name] = str(digest)

    def _name(self, mask: Path) -> str:
        return mask.relative_to(self.out / "masks").as_posix()


def _content(photo: Path) -> str | None:
    """SHA-256 of a photo; None for one that cannot be read."""
    try:
        return file_sha256(photo)
    except OSError:
        return None


def _targets(request: Request, out: Path, name: Path) -> dict[str, Path]:
    """The files of one image, the mask last: it tells that the others are there."""
    kinds = {"overlays": "jpg"} if request.overlays else {}
    kinds |= {"scores": "png"} if request.scores else {}
    kinds["masks"] = "png"
    return {kind: out / kind / name.with_name(f"{name.name}.{suffix}") for kind, suffix in kinds.items()}


def _write(request: Request, photo: Path, found: "Answer", targets: dict[str, Path], names: tuple[str, ...]) -> None:
    import numpy as np
    from PIL import Image

    from seg.data.decode import decode_image
    from seg.report.pictures import FOREGROUND, class_key, overlay

    mask = found.mask(request.threshold)
    try:
        for kind, path in targets.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as tmp:
                if kind == "masks" and found.codes is not None:
                    save_indexed(tmp, mask)
                elif kind == "masks":
                    save_png(tmp, mask, request.format or "png255")
                elif kind == "scores":
                    Image.fromarray(np.rint(found.scores * 65535).astype(np.uint16)).save(tmp, format="PNG")
                else:
                    key = FOREGROUND if found.codes is None else class_key(names)
                    Image.fromarray(overlay(decode_image(photo)[0], mask, key=key)).save(tmp, format="JPEG")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # of this photo alone
            raise SegError(f"{photo}: its name is too long for a file called after it; rename it") from error
        raise


@interruptible()
def main(arguments: list[str] | None = None) -> None:
    """Console entrypoint; ``arguments`` default to the command line's."""
    handle_broken_pipe()
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

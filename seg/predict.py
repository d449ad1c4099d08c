"""``python -m seg.predict model=... images=... out=...``: masks of a folder of photos, as files."""

import argparse
import contextlib
import hashlib
import json
import os
import re
import sys
import types
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from seg.console import handle_broken_pipe
from seg.errors import SegError, interruptible
from seg.files import atomic_path, file_sha256, writable
from seg.models.png import CLASSES, PNGKind, save_indexed, save_png, write_classes

if TYPE_CHECKING:
    from seg.models.load import Model
    from seg.models.predictor import Answer


class _Parser(argparse.ArgumentParser):
    """Reads ``key=value``, as ``seg.run`` does."""

    def error(self, message: str) -> NoReturn:
        raise SegError(f"{message.replace('--', '')}; --help shows all arguments")

    def format_help(self) -> str:
        return re.sub(r"--(?!help)(\w+) ", r"\1=", super().format_help())


def whole_number(text: str) -> int:
    """A number from 1 on."""
    if int(text) < 1:
        raise ArgumentTypeError(f"{text}: must be at least 1")
    return int(text)


def share(text: str) -> float:
    """A number in (0, 1]."""
    if not 0 < float(text) <= 1:
        raise ArgumentTypeError(f"{text}: must lie in (0, 1]")
    return float(text)


def flag(text: str) -> bool:
    """True or false."""
    if text.lower() not in ("true", "false"):
        raise ArgumentTypeError(f"{text}: must be true or false")
    return text.lower() == "true"


def place(text: str) -> str:
    """A file, a folder or a glob; no shell expands a ~ behind a =."""
    if not text:
        raise ArgumentTypeError("must not be empty")
    return os.path.expanduser(text)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Arguments ``key=value`` to a request.

    Raises:
        SegError: naming what is wrong.
    """
    parser = _Parser(
        "python -m seg.predict",
        description="weakseg: masks of images with a trained segmenter, out/masks/NAME.png, each at its own size.",
        epilog="What is there already is skipped. Unreadable files are named at the end; the exit status is then 1.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", type=place, required=True, metavar="RUN", help="a run's folder, or a file of weights")
    add("--images", type=place, required=True, metavar="WHERE", help="a file, a folder or a 'GLOB'")
    add("--out", type=place, required=True, metavar="FOLDER", help="gets masks/, overlays/, scores/")
    add("--format", choices=get_args(PNGKind), help="0 and 255, 0 and 1, or indices in colour (the default of classes)")
    add("--threshold", type=share, default=0.5, metavar="T", help="foreground from this score on (0.5)")
    add("--overlays", type=flag, default=False, metavar="true", help="overlays/NAME.jpg: the mask over the photo")
    add("--scores", type=flag, default=False, metavar="true", help="scores/NAME.png: 16 bits, 65535 is 1")
    add("--overwrite", type=flag, default=False, metavar="true", help="do again what is there")
    add("--batch_size", type=whole_number, default=16, metavar="N", help="images per forward pass (16)")
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="where it is computed (auto)")
    add("--workers", type=whole_number, metavar="N", help="threads that decode images")
    add("--threads", type=whole_number, metavar="N", help="threads of PyTorch's CPU operators")
    add("--input_size", type=whole_number, metavar="N", help="side in pixels that the network sees")
    add("--network", type=place, metavar="CLASS", help="of weights that nothing describes, or MODULE.CLASS of your own")
    return parser.parse_args([a if a.startswith("-") else f"--{a}" for a in arguments])


def run(request: argparse.Namespace) -> list[str]:
    """Predict what was requested and is not there yet.

    Returns:
        The unreadable files, a line each.

    Raises:
        SegError: for a model, images or a folder that can't be used, before any work.
    """
    from seg.data.layout import TOO_LONG, too_long
    from seg.models.load import load_model
    from seg.models.predictor import RECORD, find_images, predict_each
    from seg.store import Runtime

    out = Path(request.out)
    if not writable(out):
        raise SegError(f"out={out}: cannot be written to; choose another folder")
    found = find_images(request.images)
    runtime = Runtime(accelerator=request.device, workers=request.workers, threads=request.threads)
    model = load_model(request.model, request.device, request.input_size, request.network)
    kind: PNGKind = request.format or ("palette" if model.classes else "png255")
    if model.classes and kind != "palette":
        raise SegError(f"format={kind}: tells no classes apart, and this model does; leave it out for palette")
    settings = hashlib.sha256(f"{model.sha256} {request.threshold} {kind} {model.input_size}".encode()).hexdigest()
    # The mask last: it tells that the others are there.
    kinds = ({"overlays": "jpg"} if request.overlays else {}) | ({"scores": "png"} if request.scores else {})
    kinds["masks"] = "png"
    todo = []
    known = {} if request.overwrite else _read_record(out / RECORD)
    if any(made_with != settings for _, made_with in known.values()):
        raise SegError(
            f"out={out}: holds results of another model, threshold, format or input_size; choose another folder, or "
            "overwrite=true"
        )
    bad = [f"{path}: {TOO_LONG}" for path, name in found if too_long(name.name)]
    for path, name in found:
        if too_long(name.name):
            continue
        targets = {k: out / k / name.with_name(f"{name.name}.{suffix}") for k, suffix in kinds.items()}
        done = targets["masks"].exists() and not request.overwrite
        if done and known.get(str(name), ("", ""))[0] != _content(path):
            raise SegError(
                f"out={out}: {targets['masks']} is not of {path} as it is now; choose another folder, or overwrite=true"
            )
        if not (done and all(target.exists() for target in targets.values())):
            todo.append((path, name, targets))
    skipped = len(found) - len(todo) - len(bad)
    runtime.start()
    photos = [path for path, *_ in todo]
    results = predict_each(model, photos, batch_size=request.batch_size, workers=runtime.worker_count)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if model.classes:
            write_classes(out / CLASSES, model.names)
        with (out / RECORD).open("w" if request.overwrite else "a", encoding="utf-8") as record:
            for (path, name, targets), result in zip(todo, runtime.bar(results, "predicting", len(todo)), strict=True):
                try:
                    if isinstance(result, SegError):
                        raise result
                    targets["masks"].unlink(missing_ok=True)  # of the photo before: it must not be taken for this one's
                    record.write(f"\n{json.dumps([str(name), _content(path), settings])}\n")
                    record.flush()
                    _write(request.threshold, kind, path, result, targets, model)
                except SegError as error:
                    bad.append(str(error))
    except OSError as error:
        raise SegError(f"out={out}: cannot be written to ({error.strerror}); the rest was not done") from error
    there = f", {skipped} were there already (overwrite=true does them again)" if skipped else ""
    print(f"{len(found) - skipped - len(bad)} of {len(found)} images: {out}/masks{there}")
    return bad


def _read_record(path: Path) -> dict[str, tuple[str, str]]:
    """By the name of a mask the SHA-256 of its photo, and of what it was made with; lines that were cut off are not."""
    known: dict[str, tuple[str, str]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                name, photo, settings = json.loads(line)
                known[str(name)] = str(photo), str(settings)
    return known


def _content(photo: Path) -> str:
    """SHA-256 of a photo; empty for one that cannot be read."""
    with contextlib.suppress(OSError):
        return str(file_sha256(photo))
    return "unreadable"


def _write(
    threshold: float, kind: PNGKind, photo: Path, found: "Answer", targets: dict[str, Path], model: "Model"
) -> None:
    """The files of one image."""
    import numpy as np
    from PIL import Image

    from seg.data.decode import decode_image
    from seg.report.pictures import FOREGROUND, class_key, overlay

    mask = found.mask(threshold)
    for what, path in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as tmp:
            if what == "masks" and found.codes is not None:
                save_indexed(tmp, mask)
            elif what == "masks":
                save_png(tmp, mask, kind)
            elif what == "scores":
                Image.fromarray(np.rint(found.scores * 65535).astype(np.uint16)).save(tmp, format="PNG")
            else:
                key = class_key(model.names) if model.classes else FOREGROUND
                Image.fromarray(overlay(decode_image(photo)[0], mask, key=key)).save(tmp, format="JPEG")


@interruptible()
def main(arguments: list[str] | None = None) -> None:
    """Console entrypoint; ``arguments`` default to the command line's."""
    handle_broken_pipe()
    try:
        bad = run(parse(sys.argv[1:] if arguments is None else arguments))
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

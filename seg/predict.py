"""``python -m seg.predict model=... images=... out=...``: masks of a folder of photos, as files."""

import argparse
import hashlib
import itertools
import os
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from seg.errors import SegError, entrypoint
from seg.files import atomic_path, file_sha256, writable

if TYPE_CHECKING:
    from seg.models.video import Frame

    #: An image, the files to write, and the hash of what they are made from.
    _Todo = tuple[Path | Frame, dict[str, Path], str]

#: The key of a mask's PNG text with a hash of the photo, the model and the settings.
SOURCE = "weakseg"


class Parser(argparse.ArgumentParser):
    """Reads ``key=value``, as ``seg.run`` does."""

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """The values. Raises SegError, naming what is wrong."""
        return self.parse_args([a if a.startswith("-") else f"--{a}" for a in arguments])

    def error(self, message: str) -> NoReturn:
        raise SegError(f"{message.replace('--', '')}; --help shows all arguments")

    def format_help(self) -> str:
        text = re.sub(r"(?m)^(  --(?!help)\w+ \S+)  ", r"\1    ", super().format_help())  # keeps the columns aligned
        return re.sub(r"--(?!help)(\w+) ", r"\1=", text)


def number(kind: type[int] | type[float], holds: Callable[[Any], bool], what: str) -> Callable[[str], Any]:
    """A parser of numbers that fulfil a condition; ``what`` follows "must" in the message."""

    def read(text: str) -> int | float:
        if not holds(value := kind(text)):
            raise argparse.ArgumentTypeError(f"{text}: must {what}")
        return value

    read.__name__ = kind.__name__  # argparse's messages have it
    return read


count = number(int, lambda n: n >= 1, "be at least 1")


def flag(text: str) -> bool:
    """True or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text}: must be true or false")
    return text.lower() == "true"


def path(text: str) -> Path:
    """A file or a folder; the shell does not expand a ~ after a =."""
    return Path(text).expanduser()


def parse(arguments: list[str]) -> argparse.Namespace:
    """Arguments ``key=value`` to a request.

    Raises:
        SegError: naming what is wrong.
    """
    parser = Parser(
        "python -m seg.predict",
        description="weakseg: masks of images with a trained segmenter, out/masks/NAME.png, each at its own size.",
        epilog="Existing masks are skipped. Unreadable files are listed at the end; the exit status is then 1.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", type=path, required=True, metavar="RUN", help="a run's folder, or a file of weights")
    add("--images", type=path, required=True, metavar="WHERE", help="a file, a folder, a video; - reads paths")
    add("--out", type=path, required=True, metavar="FOLDER", help="gets masks/, overlays/, scores/")
    add(
        "--format",
        metavar="F",
        help="png255, png01, palette; besides a palette coco, cvat, voc, yolo, labelme, label_studio in out/F",
    )
    add("--tolerance", type=float, default=0.0, metavar="T", help="pixels by which outlines are simplified (0)")
    add("--min_area", type=int, default=0, metavar="N", help="leaves smaller regions out of coco, cvat, ... (0)")
    add("--class_name", metavar="NAME", help="what the foreground is, of a model without classes (foreground)")
    add(
        "--threshold",
        type=number(float, lambda t: 0 < t <= 1, "lie in (0, 1]"),
        default=0.5,
        metavar="T",
        help="scores of at least T are foreground (0.5)",
    )
    add("--overlays", type=flag, default=False, metavar="true", help="write overlays/NAME.jpg: the mask over the photo")
    add("--scores", type=flag, default=False, metavar="true", help="write scores/NAME.png: 16 bits, 65535 is 1")
    add("--overwrite", type=flag, default=False, metavar="true", help="redo existing masks")
    add("--batch_size", type=count, metavar="N", help="images per forward pass (16; tiles: 2)")
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="device to run on (auto)")
    add("--workers", type=count, metavar="N", help="threads that decode images")
    add("--threads", type=count, metavar="N", help="threads of PyTorch's CPU operators")
    add("--input_size", type=count, metavar="N", help="side in pixels of the network's input")
    add("--tile", type=count, metavar="N", help="cut images into tiles of N pixels instead of resizing them")
    add(
        "--overlap",
        type=number(float, lambda o: 0 <= o < 1, "lie in [0, 1)"),
        metavar="O",
        help="share of a tile that the next one covers too (0.25)",
    )
    add(
        "--scale",
        type=number(float, lambda s: 0 < s <= 16, "lie in (0, 16]"),
        metavar="S",
        help="cut the image at S times its size (1)",
    )
    add("--flip", type=flag, default=False, metavar="true", help="average with the mirrored image, in twice the time")
    add("--precision", choices=["32-true", "bf16-mixed"], default="32-true", help="bfloat16 is faster on GPUs")
    add("--compile", type=flag, default=False, metavar="true", help="torch.compile: faster after a minute")
    add("--network", metavar="CLASS", help="of a file of weights without a description, or your own MODULE.CLASS")
    request = parser.parse(arguments)
    if request.tile is None and (request.overlap, request.scale) != (None, None):
        raise SegError("overlap and scale are of tiles: add tile=N")
    if request.tile is not None and request.input_size is not None:
        raise SegError("input_size: with tile=N that is the size of the network's input; leave it out")
    return request


def run(request: argparse.Namespace) -> list[str]:
    """Predict the requested masks that do not exist yet.

    Returns:
        The unreadable files, a line each.

    Raises:
        SegError: the model, the images or the folder cannot be used.
    """
    from seg.formats import MASKS, WITH_SCORES, check_format, write_classes
    from seg.models.load import faster, load_model
    from seg.models.predictor import find_images
    from seg.models.tiles import Tiles
    from seg.models.video import Frame
    from seg.store import Runtime

    out: Path = request.out
    if not writable(out):
        raise SegError(f"out={out}: cannot be written to; choose another folder")
    images = find_images(request.images, out)
    runtime = Runtime(accelerator=request.device, workers=request.workers, threads=request.threads)
    model = load_model(request.model, request.device, request.tile or request.input_size, request.network)
    given = {key: value for key in Tiles._fields if (value := getattr(request, key)) is not None}
    tiles = Tiles(**given) if request.tile else None
    check_format(request.format, max(1, len(model.classes)), request.tolerance, request.min_area, key="")
    tool = request.format if request.format not in (None, *MASKS) else None
    if (not tool and (request.min_area or request.class_name)) or (model.classes and request.class_name):
        raise SegError("min_area and class_name are for format=coco, cvat, ...; class_name for a model without classes")
    names = model.names if request.class_name is None else ("background", request.class_name)
    request.format = "palette" if tool or model.classes else request.format or "png255"
    request.scores = request.scores or tool in WITH_SCORES
    suffixes = ({"overlays": ".jpg"} if request.overlays else {}) | ({"scores": ".png"} if request.scores else {})
    suffixes["masks"] = ".png"
    todo: list[_Todo] = []
    try:
        for photo, name in images:
            targets = {kind: out / kind / f"{name}{suffix}" for kind, suffix in suffixes.items()}
            settings = f"{model.sha256} {request.threshold} {request.format} {model.input_size}"
            settings += f" {tiles} {request.precision} {request.flip}"
            file, number = photo if isinstance(photo, Frame) else (photo, "")
            source = hashlib.sha256(f"{file_sha256(file)} {number} {settings}".encode()).hexdigest()
            if not request.overwrite and targets["masks"].exists() and _source(targets["masks"]) != source:
                raise SegError(
                    f"out={out}: {targets['masks']} was made from another photo, model or settings"
                    "; choose another folder, or overwrite=true"
                )
            if request.overwrite or not all(target.exists() for target in targets.values()):
                todo.append((photo, targets, source))
        skipped = len(images) - len(todo)
        runtime.start()
        if todo:
            model = faster(
                replace(model, flip=request.flip), bf16=request.precision == "bf16-mixed", compiled=request.compile
            )
        if model.classes or tool:
            out.mkdir(parents=True, exist_ok=True)
            write_classes(out / "classes.txt", names)
        bad = _predict_all(request, model, todo, runtime, tiles)
        if tool:
            _write_for_tool(request, tool, images, names)
    except OSError as error:
        raise SegError(f"{error.filename or out}: {error.strerror}; fix that and run it again") from error
    there = f", {skipped} existed already (overwrite=true redoes them)" if skipped else ""
    print(f"{len(todo) - len(bad)} of {len(images)} images: {out}/masks{there}")
    return bad


def _predict_all(
    request: argparse.Namespace, model: Any, todo: "Sequence[_Todo]", runtime: Any, tiles: Any
) -> list[str]:
    """Predict and write; returns the errors of unreadable images."""
    from seg.models.predictor import predict_each
    from seg.models.video import read

    coming, photos = itertools.tee(read(photo for photo, _, _ in todo))
    batch = request.batch_size or (2 if tiles else 16)
    results = predict_each(model, coming, batch_size=batch, workers=runtime.worker_count, tiles=tiles)
    bad = []
    shown = runtime.bar(results, "predicting", len(todo))
    for (_, targets, source), image, result in zip(todo, photos, shown, strict=True):
        if isinstance(result, SegError):
            bad.append(str(result))
        else:
            _write_files(request, model, image, result, targets, source)
    return bad


def _write_files(
    request: argparse.Namespace, model: Any, image: Any, result: Any, targets: dict[str, Path], source: str
) -> None:
    """Write the files of one image, the mask last: it marks that the others are complete."""
    import numpy as np
    from PIL import Image, PngImagePlugin

    from seg.formats import save_mask
    from seg.models.predictor import pixels_of
    from seg.report.pictures import FOREGROUND, class_key, overlay

    targets["masks"].unlink(missing_ok=True)  # if the process is killed now, an old mask must not count as the new one
    mask = result.mask(request.threshold)
    for kind, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as tmp:
            if kind == "overlays":
                key = class_key(model.names) if model.classes else FOREGROUND
                Image.fromarray(overlay(pixels_of(image), mask, key=key)).save(tmp, format="JPEG")
            elif kind == "scores":
                Image.fromarray((result.scores * 65535 + 0.5).astype(np.uint16)).save(tmp, format="PNG")
            else:
                text = PngImagePlugin.PngInfo()
                text.add_text(SOURCE, source)
                save_mask(tmp, mask, request.format, pnginfo=text)


def _write_for_tool(
    request: argparse.Namespace, tool: Any, images: "list[tuple[Path | Frame, Path]]", names: Sequence[str]
) -> None:
    """Write ``out/<tool>`` from the masks and scores on disk."""
    import numpy as np
    from PIL import Image

    from seg.formats import Picture, picture_of, write
    from seg.models.video import Frame

    def pictures() -> Iterator[Picture]:
        for photo, name in images:
            mask, scores = (request.out / folder / f"{name}.png" for folder in ("masks", "scores"))
            if mask.exists():  # an unreadable photo has none
                shown = np.asarray(Image.open(scores, formats=["PNG"])) / np.float32(65535) if request.scores else None
                file = f"{name}.png" if isinstance(photo, Frame) else (name.parent / photo.name).as_posix()
                yield picture_of(file, np.asarray(Image.open(mask, formats=["PNG"])), names, shown, request.min_area)

    photo, name = images[0]
    file, below = (photo.video, name.parent) if isinstance(photo, Frame) else (photo, name)
    folder = Path(os.path.abspath(file)).parents[len(below.parts) - 1]
    write(tool, request.out / tool, names, pictures(), request.tolerance, folder.name)


def _source(mask: Path) -> str | None:
    """The hash in a mask's PNG; None for other or damaged files."""
    from PIL import Image

    try:
        with Image.open(mask, formats=["PNG"]) as image:
            return image.info.get(SOURCE)
    except (OSError, ValueError):
        return None


@entrypoint()
def main(arguments: list[str] | None = None) -> None:
    """Console entrypoint; ``arguments`` default to the command line's."""
    if bad := run(parse(sys.argv[1:] if arguments is None else arguments)):
        print(f"error: {len(bad)} unreadable: " + "; ".join(bad), file=sys.stderr)
        sys.exit(1)


class _CallableModule(types.ModuleType):
    """Makes the module callable: ``seg.predict`` is also the function of ``from seg import predict``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from seg.models.predictor import predict

        return predict(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()

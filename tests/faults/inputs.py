"""Bad inputs by the hundred: every key of the config with values that it cannot have, command lines, folders, files."""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.kills import Outcome, chosen
from faults.trial import COMMAND, Ended, Workplace, composed

ROOT = Path(__file__).parents[2]

#: Seconds that a refusal may take.
MOST = 5.0

#: Config keys are tried where they are; each key in the first of these that has it.
BASES: tuple[tuple[str, ...], ...] = (
    (),
    ("pipeline=cam_affinity", "segmenter=unet"),
    ("pipeline=full", "supervision=bbox"),
    ("segmenter=deeplabv3", "supervision=body_bbox", "refiner=none"),
    ("pipeline=cam_grabcut",),
    ("refiner=frozen",),
    ("refiner=pamr", "segmenter=unet_resnet18"),
    ("refiner=random_walker",),
    ("refiner=superpixels",),
    ("data=image_folder", "data.root=given/photos", "weights=null", "colocalise=none"),
    ("data=oxford_pet", "data.root=given/pets", "weights=null", "colocalise=none"),
    ("data=voc", "data.root=given/photos", "weights=null", "colocalise=none"),
    ("data=coco", "data.root=given/photos", "weights=null", "colocalise=none"),
    ("data=toy_scenes",),
)
#: What a run of the first of them does not read.
_UNREAD = ("data.refine.", "checkpoints.affinity", "checkpoints.segmenter", "masks.")
COMMON = ("store=store", "runtime.accelerator=cpu", "runtime.threads=1", "runtime.progress=false")

#: Texts that may be anything.
_FREE = ("store", "title", "name", "train_list")


@dataclass(frozen=True)
class Attempt:
    """A command that has to be refused.

    Attributes:
        arguments: as typed. says: what the refusal has to name, or of several texts one. kind: in the table of counts.
        module: whose command it is. late: whether only what is done with the data can show it.
    """

    arguments: tuple[str, ...]
    says: str | tuple[str, ...]
    kind: str
    module: str = "seg.run"
    late: bool = False

    def __str__(self) -> str:
        return f"{self.module} {' '.join(self.arguments)}"[:200]


def inputs(place: Workplace, count: int = 0, fresh: int = 30, only: str = "") -> Outcome:
    """Give each bad input to a process of its own, and some of them to a fresh command, whose time counts.

    Args:
        place: where. count: of attempts, evenly over all; 0 for all. fresh: commands that are started anew.
        only: attempts whose words contain this.
    """
    import seg.models.predictor
    import seg.predict
    import seg.store.__main__  # noqa: F401  warm, as what a run imports is

    given = make_given(place)
    attempts = [attempt for attempt in every_attempt(given) if only in str(attempt)]
    out, kinds = Outcome("bad inputs"), dict.fromkeys((attempt.kind for attempt in attempts), 0)
    for attempt, _ in chosen([(a, "") for a in attempts], count or len(attempts)):  # type: ignore[misc, list-item]
        folder = place.folder()
        (folder / "given").symlink_to(given)
        started = _seconds()
        ended = place.run(_refusing(place, folder, attempt), 120)
        _judge(out, attempt, ended, folder, _seconds() - started)
        kinds[attempt.kind] += 1
        shutil.rmtree(folder)
    seconds, own = [], []
    for attempt, _ in chosen([(a, "") for a in attempts], fresh):  # type: ignore[misc, list-item]
        folder = place.folder()
        (folder / "given").symlink_to(given)
        started, used = time.perf_counter(), _seconds()
        ended = _fresh(attempt, folder)
        seconds.append(time.perf_counter() - started)
        own.append(_seconds() - used)
        _judge(out, attempt, ended, folder, 0)
        shutil.rmtree(folder)
    said = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    out.what = f"bad inputs: {said}"
    if seconds:
        times = f"median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s; "
        times += f"of the processor's time {statistics.median(own):.1f} s and {max(own):.1f} s"
        out.what += f"; {len(seconds)} as fresh commands ({times})"
    shutil.rmtree(given)
    return out


def _seconds() -> float:
    """Of the children alone: a machine that is shared takes longer."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _refusing(place: Workplace, folder: Path, attempt: Attempt) -> Any:
    command = place.command(folder, list(attempt.arguments), attempt.module)

    def work() -> int:
        from seg.experiment import Experiment

        if not attempt.late:
            Experiment.build = lambda self: os._exit(0)  # type: ignore[method-assign]
        return command()

    return work


def _fresh(attempt: Attempt, folder: Path) -> Ended:
    ended = subprocess.run(
        [sys.executable, "-m", attempt.module, *attempt.arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )
    return Ended(ended.returncode, ended.stdout + ended.stderr)


def _judge(out: Outcome, attempt: Attempt, ended: Ended, folder: Path, seconds: float) -> None:
    """Count one: refused in one line that names it, in time, before any work."""
    out.trials += 1
    says = (attempt.says,) if isinstance(attempt.says, str) else attempt.says
    lines = [line for line in ended.said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if ended.traceback or ended.status < 0 or ended.status == 70:
        out.tracebacks += 1
        out.found(f"traceback: {ended.last_line[:120]}", str(attempt))
    elif ended.status == 0:
        out.wrong += 1
        out.found(f"taken in silence: {attempt.arguments[-1][:60]}", str(attempt))
    elif len(errors) != 1 or (len(lines) > 1 and not attempt.late):
        out.found(f"not one line: {' / '.join(lines)[:160]}", str(attempt))
    elif not any(text in errors[0] for text in says) or len(errors[0]) > 1200:
        out.found(f"does not say {attempt.says}: {errors[0][:160]}", str(attempt))
    elif seconds > MOST:
        out.found(f"late, after {seconds:.1f} s", str(attempt))
    elif not attempt.late and (ended.work or any(folder.glob("store/*/*/manifest.json"))):
        out.found("work before the refusal", f"{attempt}: {ended.work}")
    else:
        out.right += 1
        out.refused += 1


def every_attempt(given: Path) -> Iterator[Attempt]:
    """All of them; ``given`` is where :func:`make_given` has written."""
    yield from _keys()
    for group in sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra"):
        for value in ("nonsense", "null", "../x", "[", "{a: 1}", "3,"):
            yield Attempt((f"{group}={value}",), group, "groups")
    for typed, says in _TYPED:
        yield Attempt(tuple(typed.split(" ")), says, "command lines")
    for key in ("epoch", "threshold", "seed", "data.size", "classifier.lr"):
        for span in _SPANS:
            yield Attempt(("-m", f"{key}={span}"), key.rpartition(".")[2], "spans")
    for name, arguments in sorted(json.loads((given / "folders.json").read_text()).items()):
        yield Attempt((*arguments, *COMMON), name.partition(" ")[0], "data", late=True)
    for path in sorted((given / "files").iterdir()):
        if path.suffix != ".json":
            name = f"given/files/{path.name}"
            role = path.name.partition("-")[0]
            if "json_" not in name:  # of a segmenter's size and the like, which a run has of its own
                yield Attempt((f"checkpoints.{role}={name}", *COMMAND), path.name, "weights", late=True)
            if role == "segmenter":
                yield _predict(f"model={name}", path.stem, "images=given/photos", "out=out")
    good = {"model": "model=given/model", "images": "images=given/photos", "out": "out=out"}
    for key in good:
        for value in ("", "given/notes.txt", "/proc/x", *(("given/nothing", "given/empty") if key != "out" else ())):
            yield _predict(f"{key}={value}", value or key, *(text for name, text in good.items() if name != key))
    for typed in _PREDICT:
        yield _predict(typed, typed.partition("=")[0], *good.values())
    for typed, says in _STORE:
        yield Attempt(tuple(typed.split(" ")), says, "store", "seg.store.__main__")


def _predict(typed: str, says: str, *rest: str) -> Attempt:
    late = typed == "images=given/notes.txt"  # named at the end, as one of many would be
    return Attempt((*rest, typed), says, "predict", "seg.predict", late)


def _keys() -> Iterator[Attempt]:
    """Each key that is written as a value in the config, with values of other types, without bounds, misspelt."""
    from omegaconf import OmegaConf

    seen = {"dry_run", "data.root", "select_by"}
    for base in BASES:
        config = OmegaConf.to_container(composed(list(base)))
        for key, value in _leaves(config, ""):
            name = key.rpartition(".")[2]
            if (
                key in seen
                or (not base and key.startswith(_UNREAD))
                or name == "_target_"
                or (isinstance(value, str) and "${" in value)
            ):
                continue
            seen.add(key)
            for wrong in _wrong(name, value):
                if (key, wrong) == ("select", "") or (key.startswith("chosen_by_masks.") and "{a" in wrong):
                    continue  # nothing is selected; a tree of such numbers
                yield Attempt((*base, *COMMON, f"{key}={wrong}"), (name, f"={wrong or name}", f"'{wrong}'"), "values")
            yield Attempt((*base, *COMMON, f"{key}x=1"), f"{name}x", "misspelt")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _leaves(child, f"{path}.{name}" if path else str(name))
    elif not isinstance(value, dict):
        yield path, value


def _wrong(name: str, value: Any) -> list[str]:
    always = ["", "{a: 1}", "${nowhere}"]
    if isinstance(value, bool):
        return [*always, "maybe", "3.5"]
    if isinstance(value, int | float):
        return [*always, "many", "nan", "-1e30", "9" * 400]
    if isinstance(value, list):
        return [*always, "many", "[-1000000]"]
    return always if value is None or name in _FREE else [*always, "nonsense"]


def make_given(place: Workplace) -> Path:
    """A folder with networks, photos and pets, and with those damaged in many ways."""
    import numpy as np
    from PIL import Image

    folder = place.folder()
    if (ended := place.run(place.command(folder, COMMAND))).status:
        raise RuntimeError(f"the run whose networks are to be damaged fails by itself:\n{ended.said}")
    given = place.root / "given"
    (given / "files").mkdir(parents=True)
    (given / "empty").mkdir()
    (given / "notes.txt").write_text("no picture\n")
    shutil.copytree(folder / "run/models", given / "model")
    pets = next((folder / "store/ToyPets").glob("*/oxford-iiit-pet"))
    shutil.copytree(pets, given / "pets/oxford-iiit-pet")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 5, 40, 60, 3), dtype=np.uint8)
    for label, name in enumerate(("cat", "dog")):
        (given / "photos" / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(pixels[label, number]).save(given / f"photos/{name}/{name}{number}.png")
    shutil.rmtree(folder)
    _damage_networks(given)
    (given / "folders.json").write_text(json.dumps(dict(_damaged_data(given))))
    return given


def _damage_networks(given: Path) -> None:
    for file in sorted((given / "model").glob("*.safetensors")):
        data, told = file.read_bytes(), file.with_suffix(".json").read_text()
        header = int.from_bytes(data[:8], "little")
        for name, damaged in {
            "empty": b"",
            "half": data[: len(data) // 2],
            "zeros": bytes(len(data)),
            "text": b"no network\n",
            "huge": (2**60).to_bytes(8, "little") + data[8:],
            "names": data[:8] + data[8 : 8 + header].replace(b"weight", b"wight!") + data[8 + header :],
            "nan": data[: 8 + header] + b"\xff" * (len(data) - 8 - header),
        }.items():
            (given / f"files/{file.stem}-{name}.safetensors").write_bytes(damaged)
            (given / f"files/{file.stem}-{name}.json").write_text(told)
            (given / f"files/{file.stem}-{name}.pth").write_bytes(damaged)
        for name, text in {
            "half": told[: len(told) // 2],
            "list": "[]",
            "deep": "[" * 100_000,
            "mean": json.dumps(json.loads(told) | {"mean": [1]}),
            "size": json.dumps(json.loads(told) | {"input_size": -1}),
            "class": json.dumps(json.loads(told) | {"architecture": {"class": "os.system"}}),
        }.items():
            if file.stem == "segmenter":
                (given / f"files/segmenter-json_{name}.safetensors").write_bytes(data)
                (given / f"files/segmenter-json_{name}.json").write_text(text)


#: Photos with little work, from random weights.
SMALL = ["data.size=32", "weights=null", "colocalise=none"]


def _damaged_data(given: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders of photos and of pets with something wrong, each with the arguments that read it."""
    photos = given / "photos"

    def tree(name: str, like: Path = photos) -> Path:
        copy = given / f"data-{name}"
        shutil.copytree(like, copy)
        return copy

    def use(copy: Path, says: str, *more: str) -> tuple[str, list[str]]:
        return f"{says} {copy.name}", ["data=image_folder", *SMALL, f"data.root=given/{copy.name}", *more]

    for ending, text in _LISTS:
        copy = tree(f"boxes{len(list(given.iterdir()))}")
        path = copy / f"b{ending}"
        path.write_text(text)
        yield use(copy, path.name, f"data.boxes_from=given/{copy.name}/b{ending}", "supervision=bbox")
    for text in ("cat9\n", "../cat/cat0\n", "cat0\ncat0 dog0 x\n", "\n" * 9, "9" * 5000, "/etc/passwd"):
        copy = tree(f"test{len(list(given.iterdir()))}")
        (copy / "t.txt").write_text(text)
        yield use(copy, "t.txt", f"data.test_list=given/{copy.name}/t.txt")
    for name, data in {"text": b"no picture", "empty": b"", "cut": (photos / "cat/cat0.png").read_bytes()[:90]}.items():
        copy = tree(f"photos_{name}")
        for path in copy.glob("cat/*.png"):
            path.write_bytes(data)
        yield use(copy, "cat")
        mask = tree(f"masks_{name}")
        (mask / "masks").mkdir()
        (mask / "masks/cat0.png").write_bytes(data)
        yield use(mask, "cat0.png")
    pets = given / "pets"
    for name in ("images", "annotations", "annotations/trainval.txt", "annotations/test.txt"):
        copy = tree(f"pets_{name.replace('/', '_')}", pets)
        path = copy / "oxford-iiit-pet" / name
        shutil.rmtree(path) if path.is_dir() else path.write_text("x y z\n")
        yield f"given {copy.name}", ["data=oxford_pet", *SMALL, f"data.root=given/{copy.name}"]


_LISTS = [
    (".csv", ""),
    (".csv", "file,xmin,ymin,xmax,ymax\n"),
    (".csv", "cat0,1,2,3\n"),
    (".csv", "cat0,5,5,1,1\n"),
    (".csv", "cat0,a,b,c,d\n"),
    (".csv", "cat0,nan,0,9,9\n"),
    (".csv", "cat0,0,0,inf,9\n"),
    (".csv", "cat0,0,0,900,900\n"),
    (".csv", "nobody,0,0,9,9\n"),
    (".csv", f"cat0,0,0,{'9' * 5000},9\n"),
    (".csv", f'"{"x" * 200_000}",0,0,9,9\n'),
    (".json", ""),
    (".json", "{"),
    (".json", "[]"),
    (".json", "[" * 100_000),
    (".json", '{"images": 3, "annotations": []}'),
    (".json", '{"images": [{"id": 1, "file_name": "cat0.png"}], "annotations": [{"image_id": 1, "bbox": [1, 2]}]}'),
    (".json", '{"images": [{"id": 1, "file_name": "cat0.png"}], "annotations": [{"image_id": 9}]}'),
    (".txt", "cat0 0 0 9 9\n"),
]

_SPANS = ["3..1", "1..", "..3", "1..3:0", "1..3:-1", "1..x", "0..1:1e-999999999", "1..100000000", "1..3:nan", "{1..3}"]

_TYPED = [
    ("epoch", "epoch"),
    ("=3", "=3"),
    ("epoch=1,2", "-m"),
    ("-m epoch=1,x", "epoch=x"),
    ("-m epoch=1..9000 seed=1..9000", "jobs"),
    ("-m epoch=range(1,100000000)", "jobs"),
    ("-m epoch=interval(1,3)", "epoch"),
    ("-m epoch=1..20 hydra.sweeper.max_jobs=10", "epoch"),
    ("-m epoch=1..20 hydra.sweeper.max_jobs=many", "max_jobs"),
    ("-m epoch=1,2 runtime.devices=2", "runtime.devices"),
    ("-m epoch=1,2 hydra.sweep.dir=/proc/x", "hydra.sweep.dir"),
    ("-m epoch=0,1", "epoch=0"),
    ("-m threshold=0.5,1.5", "threshold=1.5"),
    ("-m supervision=cam,bx", "supervision=bx"),
    ("+nothing=1", "nothing"),
    ("++nothing=1", "nothing"),
    ("~nothing", "nothing"),
    ("~data", "data"),
    ("~epoch", "~epoch"),
    ("+seeds.nothing=1", "nothing"),
    ("seeds._target_=os.system", "seeds"),
    ("seeds._target_=seg.masks.Sedes", "seg.masks.Sedes"),
    ("chain=null", "chain"),
    ("chain.seeds=3", "chain"),
    ("select=nowhere", "nowhere"),
    ("select=. select_by=luck", "luck"),
    ("select=given/notes.txt", "notes.txt"),
    ("hydra.run.dir=/proc/x", "/proc/x"),
    ("hydra/launcher=null", "launcher"),
    ("hydra/launcher=nothing", "nothing"),
    ("store=/proc/x", "/proc/x"),
    ("store=given/notes.txt", "notes.txt"),
    ("--config-name foo", "foo"),
    ("--config-path foo", "foo"),
    ("--config-dir foo", "foo"),
    ("--nothing", "--nothing"),
    ("data=image_folder data.root=~/[x", "data.root"),
    ("data=image_folder data.root=(x)", "data.root"),
    ("data=image_folder data.root=given/empty", "given/empty"),
    ("data=image_folder data.root=given/notes.txt", "notes.txt"),
    ("data=oxford_pet data.root=given/empty", "given/empty"),
    ("seed=" + "[" * 3000, "seed"),
    ("classifier.batch_size=1", "batch_size"),
    ("data.refine.levels=[3] refiner=affinity", "levels"),
    ("precision=16-true", "precision"),
    ("runtime.accelerator=tpu", "tpu"),
    ("backbone=alexnet", "alexnet"),
    ("labelled.count=5 labelled.list=none.txt segmenter=unet", "none.txt"),
    ("weights=given/notes.txt", "notes.txt"),
    ("weights=given/empty", "given/empty"),
    ("tracker=[csv,nothing]", "nothing"),
    ("WORLD_SIZE", "WORLD_SIZE"),
]

_PREDICT = [
    "nothing=1",
    "overlays",
    "overlays=maybe",
    "scores=3",
    "overwrite=[1]",
    "batch_size=0",
    "batch_size=x",
    "batch_size=1.5",
    "batch_size=",
    "threshold=2",
    "threshold=0",
    "threshold=nan",
    "threshold=x",
    "input_size=0",
    "input_size=1",
    "input_size=1000000",
    "format=gif",
    "format=",
    "device=tpu",
    "device=cuda",
    "workers=0",
    "workers=many",
    "threads=-1",
    "network=os.system",
    "network=nothing",
    "network=no.such.Net",
]

_STORE = [
    ("ls --store nowhere", "nowhere"),
    ("verify --store nowhere", "nowhere"),
    ("show 0123 --store given", "0123"),
    ("gc --store nowhere", "nowhere"),
    ("gc --store given --outputs nowhere", "nowhere"),
    ("rebuild --store nowhere", "nowhere"),
    ("accept --store nowhere", "nowhere"),
    ("ls store=given/notes.txt", "notes.txt"),
]

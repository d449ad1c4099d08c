"""Files of a finished run, its store and a finished sweep that are damaged, and what the next command does."""

import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from faults.kills import Outcome
from faults.trial import CHAIN, SWEEP, Ended, Workplace, figures, kind_of

#: The same command again, and those that need a product which it does not: a new threshold, more epochs, another size.
COMMANDS = {
    "same": CHAIN,
    "threshold": [*CHAIN, "threshold=0.35"],
    "epochs": [*CHAIN, "epoch=3", "segmenter.epochs=3", "segmenter.keep=all", "data.refine.epochs=2"],
    "size": [*CHAIN, "data.size=64"],
    "sweep": SWEEP,
}


def _flipped(data: bytes, where: float) -> bytes:
    at = min(int(len(data) * where), len(data) - 1)
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


#: Ways to damage a file's bytes; None deletes it. What a lost log leaves is zeros of the right size.
DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "flip": lambda data, r: _flipped(data, 0.2 + 0.8 * r.random()) if data else b"x",
    "half": lambda data, r: data[: len(data) // 2],
    "empty": lambda data, r: b"",
    "zeros": lambda data, r: bytes(len(data)),
    "delete": lambda data, r: None,
}


def _downstream(name: str) -> str:
    """Which of the commands needs a file of the store again, by the file's name below the folder."""
    stages = {"ToyPets": "size", "Classifier": "epochs", "Affinity": "epochs", "Segmenter": "epochs"}
    return stages.get(name.split("/")[1], "threshold")


def some(folder: Path, most: int) -> Iterator[str]:
    """Names of files of every kind, at most so many of each; locks are empty and left out."""
    seen: dict[str, int] = defaultdict(int)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".lock" and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            kind = kind_of(name.partition("/")[2]) if name.startswith("store/") else name
            seen[kind] += 1
            if seen[kind] <= most:
                yield name


def damages(place: Workplace, most: int = 1, limit: int = 0, seed: int = 0, only: str = "") -> Outcome:
    """Damage each file in each way, and give the same command and one downstream of it.

    Args:
        place: where. most: files of a kind that are tried. limit: of trials, 0 for none. seed: of the bytes. only: file
            names that contain this.
    """
    chain, sweep = place.folder(), place.folder()
    _done(place.run(place.command(chain, CHAIN)))
    out, jobs = Outcome("damaged files"), []
    for name in some(chain, most):
        for damage in DAMAGES:
            jobs.append((chain, name, damage, "same"))
            if name.startswith("store/") and name.count("/") > 2:
                jobs.append((chain, name, damage, _downstream(name)))
    if not only.startswith("store/"):
        _done(place.run(place.command(sweep, SWEEP)))
        names = (name for name in some(sweep, most) if not name.startswith("store/"))
        jobs += [(sweep, name, damage, "sweep") for name in names for damage in DAMAGES]
    jobs = [job for job in jobs if only in job[1]]
    if limit and limit < len(jobs):
        jobs = [jobs[i * len(jobs) // limit] for i in range(limit)]
    right = {"same": figures(chain), "sweep": figures(sweep)}
    for label in ("threshold", "epochs", "size"):
        if any(job[3] == label for job in jobs):
            folder = place.folder()
            _done(place.run(place.command(folder, COMMANDS[label])))
            right[label] = figures(folder)
            shutil.rmtree(folder)
    for like, name, damage, then in jobs:
        _one(place, out, like, name, damage, then, right[then], seed)
    return out


def _done(ended: Ended) -> None:
    if ended.status:
        raise RuntimeError(f"what is to be damaged fails by itself:\n{ended.said}")


def _one(
    place: Workplace, out: Outcome, like: Path, name: str, damage: str, then: str, right: object, seed: int
) -> None:
    folder = place.folder(like)
    path, said = folder / name, f"{damage} {name}, then {then}"
    data = DAMAGES[damage](path.read_bytes(), random.Random(f"{seed} {name}"))
    kind = kind_of(name.partition("/")[2]) if name.startswith("store/") else name
    try:
        if data is None:
            path.unlink()
        elif data == path.read_bytes():
            return
        else:
            path.write_bytes(data)
        out.trials += 1
        started = _again(place, folder, name, then)
        if started.traceback or started.status < 0 or started.status == 70:
            out.tracebacks += 1
            out.found(f"traceback: {kind}, {damage}: {started.last_line[:110]}", said)
        elif started.status:
            out.refused += 1
            if _again(place, folder, name, then).status:
                out.found(f"refused, again and again: {kind}, {damage}: {started.last_line[:160]}", said)
        elif figures(folder) != right:
            out.wrong += 1
            out.found(f"OTHER FIGURES, no word: {kind}, {damage}", said)
        else:
            out.right += 1
    finally:
        shutil.rmtree(folder)


def _again(place: Workplace, folder: Path, name: str, then: str) -> Ended:
    if name != "run/metrics.json":  # the figures that are there must not pass for new ones
        (folder / "run" / "metrics.json").unlink(missing_ok=True)
    return place.run(place.command(folder, COMMANDS[then]))

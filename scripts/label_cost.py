"""What should I label, for an hour? mIoU on test images by the seconds of labelling, for every kind of label.

    python scripts/label_cost.py FOLDER data=oxford_pet data.root=DIR --images 60 --minutes 5,60

For each kind and budget it writes a copy of the data (links) with as many training images as the time allows, trains on
them alone (classifier and segmenter see ``--draws`` images, however few there are) and measures the segmenter. What is
done already is skipped. Points, scribbles and boxes are drawn from the ground truth. FOLDER gets ``curve.csv`` and
``curve.png``. Data: Oxford-IIIT Pet's layout or VOC's.

Seconds of an image: those of naming its classes, and of what is drawn, per class, object or background (SECONDS).
``--classes 20 --present 1.5 --objects 2.8`` gives the 20.0, 22.1, 34.9 and 239.7 seconds of Bearman et al. for VOC, but
for the background's point or scribble, which they have not.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

#: Seconds of a label. Bearman et al., What's the Point, ECCV 2016: whether an image shows a class, a point on it, a
#: scribble, an object's outline. Papadopoulos et al., Extreme Clicking, ICCV 2017: a box.
SECONDS = {"class": 1.0, "point": 2.4, "scribble": 10.9, "box": 7.0, "mask": 79.0}
#: By kind: what is run, whether absent classes are looked for too, and what is drawn on each class or object.
KINDS = {
    "image labels": ("pipeline=cam_grabcut", True, ""),
    "points": ("pipeline=cam_grabcut supervision=points pixels.simulate=points", False, "point"),
    "points + image labels": ("pipeline=cam_grabcut pixels.simulate=points", True, "point"),
    "scribbles": ("pipeline=cam_grabcut supervision=scribbles pixels.simulate=scribbles", True, "scribble"),
    "boxes": ("pipeline=cam_grabcut supervision=body_bbox", True, "box"),
    "masks": ("pipeline=full", True, "mask"),
}
#: Lists of trainval and test, by layout, and where an image's ground truth lies.
LAYOUTS = (
    ("oxford-iiit-pet/annotations/trainval.txt", "oxford-iiit-pet/annotations/test.txt", "trimaps"),
    ("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", ""),
)


def seconds(kind: str, classes: float = 1, present: float = 1, objects: float = 1) -> float:
    """Seconds of labelling an image of a data set of so many classes, of which it shows ``present``."""
    _, looks, drawn = KINDS[kind]
    naming = SECONDS["class"] * ((classes - present if drawn else classes) if looks else 0)
    times = {"point": present + 1, "scribble": present + 1, "box": objects, "mask": objects}
    return naming + (SECONDS[drawn] * times[drawn] if drawn else 0)


def plan(minutes: list[float], images: int, **data: float) -> pd.DataFrame:
    """A row per kind and number of images: those that a budget allows, ``images`` at most, each once."""
    costs = {kind: seconds(kind, **data) for kind in KINDS}
    found = [(kind, min(images, int(60 * m / cost)), cost) for kind, cost in costs.items() for m in minutes]
    rows = pd.DataFrame(found, columns=["labels", "images", "seconds per image"]).drop_duplicates()
    rows["seconds"] = rows["images"] * rows["seconds per image"]
    return rows[rows["images"] >= 8].reset_index(drop=True)


def spread(lines: list[str], count: int) -> list[str]:
    """So many of the lines, spread evenly: lists are sorted by class."""
    at = np.linspace(0, len(lines) - 1, min(count, len(lines))).round().astype(int)
    return [lines[i] for i in at]


def subset(root: Path, folder: Path, train: int, test: int) -> None:
    """A copy of a data set, of links, with fewer images in its lists, all of which have ground truth.

    Raises:
        SystemExit: it has neither layout.
    """
    found = [layout for layout in LAYOUTS if (root / layout[0]).is_file()]
    if not found:
        raise SystemExit(f"{root}: neither {LAYOUTS[0][0]} nor {LAYOUTS[1][0]} is there")
    texts = {}
    for name, count in zip(found[0][:2], (train, test), strict=True):
        lines = [x for x in (root / name).read_text().splitlines() if x and not x.startswith("#")]
        masks = (root / name).parent / found[0][2]
        there = [x for x in lines if not found[0][2] or (masks / f"{x.split()[0]}.png").is_file()]
        texts[Path(name)] = "\n".join(spread(there, count)) + "\n"

    def link(at: Path) -> None:
        (folder / at).mkdir(parents=True, exist_ok=True)
        for entry in sorted((root / at).iterdir()):
            name = at / entry.name
            if name in texts:
                (folder / name).write_text(texts[name])
            elif any(name in text.parents for text in texts):
                link(name)
            elif not (folder / name).exists():
                (folder / name).symlink_to(entry.resolve())

    link(Path())


def command(kind: str, images: int, folder: Path, data: Path, draws: int, given: list[str]) -> list[str]:
    """The run of one kind of label on so many images; what is given wins."""
    epochs = max(2, round(draws / images))
    own = [*KINDS[kind][0].split(), "segmenter=unet_resnet18", f"segmenter.epochs={epochs}"]
    own += ["segmenter.input_size=160", "segmenter.batch_size=8"]
    own += ["data.images=with_masks", "figures=false", "evaluation.quality=false", "runtime.progress=false"]
    if "supervision" not in KINDS[kind][0] and kind != "masks":
        own.append(f"epoch={epochs}")  # of the classifier
    unused = ("data.root=", "colocalise.") if kind == "masks" else ("data.root=",)
    given = [text for text in given if not text.startswith(unused)]
    named = {text.partition("=")[0] for text in given}
    own = [text for text in own if text.partition("=")[0] not in named]
    places = [f"data.root={data}", f"store={folder / 'store'}", f"hydra.run.dir={data.parent / 'run'}"]
    return ["-m", "seg.run", *own, *given, *places]


def miou(run: Path) -> float:
    """Of a run's last step on test images."""
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    return [row["miou"] for row in rows if row["split"] == "test"][-1]


def best(rows: pd.DataFrame, minutes: float) -> str:
    """The answer, for one budget."""
    top = rows[rows["seconds"] <= 60 * minutes].sort_values("mIoU").iloc[-1]
    return f"for {minutes:g} minutes: {top['labels']} of {top['images']} images (mIoU {top['mIoU']:.4f})"


def draw(path: Path, rows: pd.DataFrame) -> None:
    """A curve for each kind as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for kind, part in rows.groupby("labels", sort=False):
        part = part.sort_values("seconds")
        axes.plot(part["seconds"] / 60, part["mIoU"], marker="o", label=kind)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xticks([m for m in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if low <= m <= high])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("minutes of labelling")
    axes.set_ylabel("mIoU on test images")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Run what is not there, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=300, help="training images at most")
    parser.add_argument("--test", type=int, default=300, help="test images at most")
    parser.add_argument("--minutes", default="5,15,60", help="budgets of labelling")
    parser.add_argument("--draws", type=int, default=1200, help="images that each training sees")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of labels")
    for name, usual in (("classes", 1.0), ("present", 1.0), ("objects", 1.0)):
        parser.add_argument(
            f"--{name}", type=float, default=usual, help=f"{name} per image of the data, for the seconds"
        )
    args, given = parser.parse_known_args()
    root = next((x.partition("=")[2] for x in given if x.startswith("data.root=")), "")
    minutes = sorted(float(m) for m in args.minutes.split(","))
    rows = plan(minutes, args.images, classes=args.classes, present=args.present, objects=args.objects)
    rows = rows[rows["labels"].isin(args.kinds.split(","))]
    for at, row in rows.iterrows():
        folder = args.folder.resolve() / f"{row['labels'].replace(' ', '_')}_{row['images']}"
        if not (folder / "run/metrics.json").is_file():
            subset(Path(root).resolve(), folder / "data", row["images"], args.test)
            said = command(row["labels"], row["images"], args.folder.resolve(), folder / "data", args.draws, given)
            subprocess.run([sys.executable, *said], check=True)
        rows.loc[at, "mIoU"] = miou(folder / "run")
        rows.dropna().to_csv(args.folder / "curve.csv", index=False, float_format="%.4f")
    draw(args.folder / "curve.png", rows)
    print(rows.to_string(index=False, float_format="%.4f"), *(best(rows, m) for m in minutes), sep="\n")
    print("points, scribbles and boxes were drawn from the ground truth", args.folder / "curve.png", sep="\n")


if __name__ == "__main__":
    main()

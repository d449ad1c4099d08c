"""Does the estimated quality order masks as their mIoU does? A scatter plot over data sets, steps and settings.

    python scripts/quality.py FOLDER DATA R18 MBV2 [SET ...]

runs ``cam_grabcut`` with some settings on each data set below DATA that is there (or those that are named), which takes
an hour or two on two cores, and goes on where it was. R18 and MBV2 are files of ImageNet weights of ResNet-18 and
MobileNetV2. It leaves ``quality.csv``, ``quality.png`` and a run per setting in FOLDER. FOLDER alone draws again.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

PHOTOS = ("supervision.scales=[0.75,1.0,1.5]", "supervision.flip=true", "precision=bf16-mixed", "data.limit=150")
PETS = ("data=oxford_pet", "data.images=with_masks")
VOC = ("data=voc", "data.labels_from=masks", "epoch=4")
#: Of each data set its folder below DATA, and its overrides.
SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "toy_pets": ("", ("data=toy_pets",)),
    "toy_scenes": ("", ("data=toy_scenes",)),
    "pets": (".", (*PETS, "epoch=1", *PHOTOS)),
    "species": (".", (*PETS, "data.labels=species", "task=classes", "epoch=1", *PHOTOS)),
    "heads": (".", (*PETS, "supervision=bbox", "data.limit=150")),
    "voc-animals": ("voc-animals", (*VOC, *PHOTOS)),
    "msrc": ("msrc", (*VOC, "classifier.batch_size=16", "classifier.frozen_stages=0", *PHOTOS)),
    "magnetic-tile": ("magnetic-tile", ("data=image_folder", "epoch=4", *PHOTOS)),
}


def settings(name: str, weights: str, features: str) -> dict[str, list[str]]:
    """The settings of a data set, by name; ``weights`` of ResNet-18, ``features`` of MobileNetV2."""
    pca = ["colocalise=pca", f"colocalise.weights={features}"]
    other = ["colocalise=pca", "colocalise.backbone=resnet18", f"colocalise.weights={weights}"]
    plain, appearance = ["colocalise=none"], ["colocalise=appearance"]
    if name == "heads":  # no classifier is trained, which would be given these weights
        pca.append(f"colocalise.more_weights=[{weights}]")
    usual = appearance if name.startswith("toy") else pca
    found = {
        "usual": usual,
        "not co-localised": plain,
        "features of ResNet-18": other,
        "appearance": appearance,
        "superpixels": [*usual, "refiner=superpixels"],
        "PAMR": [*plain, "refiner=pamr"],
        "random walker": [*usual, "refiner=random_walker"],
        "threshold otsu": [*usual, "threshold=otsu"],
        "threshold 0.3": [*usual, "threshold=0.3"],
        "threshold 0.6": [*usual, "threshold=0.6"],
        "CAM threshold 0.15": [*plain, "threshold=0.15"],
        "without prior": [*pca, "colocalise.prior=0"],
        "one round": [*pca, "colocalise.rounds=1", "colocalise.components=3"],
    }
    trained = [] if name == "heads" or name.startswith("toy") else [f"weights={weights}"]
    return {key: [*SETS[name][1], *trained, *value] for key, value in found.items()}


def run(folder: Path, data: Path, weights: str, features: str, names: list[str]) -> None:
    """Run what is not done yet."""
    for name in names or SETS:
        place = data / SETS[name][0] if SETS[name][0] else None
        if place is not None and not place.is_dir():
            print(f"{name}: {place} is not there; left out")
            continue
        usual = [f"data.root={place}"] if place is not None else []
        usual += ["figures=false", "evaluation.backbone=mobilenet_v2", f"evaluation.weights={features}"]
        for key, overrides in settings(name, weights, features).items():
            out = folder / name / key.replace(" ", "_")
            if not (out / "metrics.json").is_file():
                words = [
                    "pipeline=cam_grabcut",
                    *overrides,
                    *usual,
                    f"store={folder / 'store'}",
                    f"hydra.run.dir={out}",
                ]
                done = subprocess.run([sys.executable, "-m", "seg.run", *words], capture_output=True, text=True)
                ended = "done" if done.returncode == 0 else (done.stdout + done.stderr)[-300:]
                print(f"{name}: {key}: {ended}", flush=True)


def read(folder: Path) -> pd.DataFrame:
    """``data``, ``setting``, ``stage``, ``miou`` and ``estimate`` of trainval's masks; equal masks once."""
    rows = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        for row in json.loads(path.read_text())["rows"]:
            if row["split"] == "trainval" and row["stage"] != "seeds" and row.get("estimated_quality") is not None:
                place = (path.parent.parent.name, path.parent.name.replace("_", " "))
                rows.append((*place, row["stage"], row["miou"], row["estimated_quality"]))
    if not rows:
        raise SystemExit(f"{folder}: no finished run; give DATA and the two files of weights")
    found = pd.DataFrame(rows, columns=["data", "setting", "stage", "miou", "estimate"])
    return found.drop_duplicates(["data", "miou", "estimate"])


def summary(points: pd.DataFrame) -> pd.DataFrame:
    """By data set: how many masks, Spearman's rho, and how far the masks of the best estimate are from the best."""
    found = []
    for name, part in points.groupby("data"):
        chosen = part.loc[part["estimate"].idxmax(), "miou"]
        rho = part["miou"].corr(part["estimate"], method="spearman")
        found.append((name, len(part), rho, chosen, part["miou"].max(), part["miou"].max() - chosen))
    return pd.DataFrame(found, columns=["data", "masks", "rho", "chosen", "best", "loss"])


def draw(path: Path, points: pd.DataFrame) -> None:
    """A point per step and setting, a panel per data set."""
    from matplotlib.figure import Figure

    names = sorted(points["data"].unique())
    figure = Figure(figsize=(2.6 * min(len(names), 4), 2.6 * -(-len(names) // 4)), dpi=110, layout="constrained")
    grid = figure.subplots(-(-len(names) // 4), min(len(names), 4), squeeze=False).flat
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid, names, strict=False):
        part = points[points["data"] == name]
        for kind, colour in (("CAM", "C0"), ("Gaussian", "C0"), ("refined", "C2"), ("", "C1")):
            own = part[part["stage"].str.startswith(kind)]
            part = part.drop(own.index)
            axes.plot(own["estimate"], own["miou"], "o", markersize=4, color=colour)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    figure.supxlabel(
        "estimated quality, no mask used (blue: supervision, orange: co-localised, green: refined)", fontsize=8
    )
    figure.supylabel("mIoU, trainval", fontsize=8)
    figure.savefig(path)


def main(arguments: list[str]) -> None:
    """See the module."""
    if len(arguments) not in (1, *range(4, 99)):
        raise SystemExit(str(__doc__))
    folder = Path(arguments[0]).absolute()
    if len(arguments) > 1:
        run(folder, Path(arguments[1]).absolute(), *arguments[2:4], arguments[4:])
    points = read(folder)
    points.to_csv(folder / "quality.csv", index=False)
    draw(folder / "quality.png", points)
    print(summary(points).round(3).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1:])

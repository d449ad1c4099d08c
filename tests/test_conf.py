"""Every file of conf/: it composes, it instantiates, and no key of it is read by nobody."""

import dataclasses

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from seg.config import schema
from seg.config.paths import CONF
from seg.data.coco import Coco
from seg.data.image_folder import ImageFolder
from seg.data.pets import OxfordPet
from seg.data.toys import ToyPets, ToyScenes
from seg.data.voc import Voc
from seg.experiment import Experiment
from seg.formats.annotations import Annotations
from seg.masks import Threshold
from seg.refiner.by_image import GrabCut, RandomWalker, Superpixels
from seg.refiner.pamr import PAMR
from seg.refiner.sam import SAM
from seg.refiner.walk import Walk
from seg.segmenter.predicted import Predicted
from seg.store import Runtime
from seg.supervision.bbox import BoxScores
from seg.supervision.cam import CAM
from seg.supervision.clip import TextScores
from seg.supervision.colocalise import Colocalised
from seg.supervision.mask import TargetScores

FILES = sorted(p.relative_to(CONF).as_posix() for p in CONF.rglob("*.yaml"))
#: Hydra's own groups have no choices of ours to compose.
CHOICES = [f.removesuffix(".yaml").rpartition("/")[::2] for f in FILES if "/" in f and not f.startswith("hydra/")]
SUPERVISIONS = {"cam": CAM, "bbox": BoxScores, "clip": TextScores, "mask": TargetScores}
REFINERS = {"grabcut": GrabCut, "pamr": PAMR, "random_walker": RandomWalker, "sam": SAM, "superpixels": Superpixels}
#: Experiments on data in VOC's layout begin with these.
OF_VOC = ("animals", "msrc", "voc")
#: Data that are made for masks of classes.
MANY = {"data=annotations", "data=coco", "data=voc", "data=toy_scenes"}


@pytest.fixture(scope="module", autouse=True)
def _conf():
    GlobalHydra.instance().clear()
    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def experiment(*overrides):
    return Experiment.from_config(compose("config", list(overrides)))


@pytest.mark.parametrize(("group", "choice"), [c for c in CHOICES if c[0] != "sweep"], ids=lambda part: part)
def test_every_choice_composes_and_instantiates(group, choice, official, photos, coco, voc, tmp_path):
    override = f"{group}={choice}"
    roots = {"oxford_pet": official, "image_folder": photos, "voc": voc, "coco": coco}
    overrides = [override, f"data.root={roots[choice]()}"] if group == "data" and choice in roots else [override]
    if choice == "annotations":
        root = photos()
        shape = '<polygon label="cat" points="1,1;9,1;9,9"/>'
        image = f'<image name="cat1.png" width="60" height="40">{shape}</image>'
        (root / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
        overrides += [f"data.root={root}", "data.format=cvat"]
    if group == "experiment":
        shown = "voc" if choice.startswith(OF_VOC) else "image_folder" if choice.startswith("tiles") else "oxford_pet"
        overrides = [f"+{override}", f"data.root={roots[shown]()}"]
        overrides += ["data.train_list=train"] * choice.startswith("voc")  # in place of trainaug
    if group == "defaults_for":  # it is found by what it is for
        names = ("toy_pets", "toy_scenes", *roots, "colocalise")
        data = next(name for name in names if choice.startswith(name))
        write = roots.get(data)
        overrides = [f"data={data}", f"supervision={choice.removeprefix(f'{data}_')}"]
        if data == "colocalise":
            overrides = [choice.replace("_", "=")]
        overrides += [f"data.root={write()}"] if write else []
        cfg = compose("config", overrides, return_hydra_config=True)
        choices = cfg.hydra.runtime.choices
        assert choice in (choices.defaults_for, choices["defaults_for@_global_"])
        written = yaml.safe_load((CONF / f"defaults_for/{choice}.yaml").read_text())
        written.pop("defaults", None)
        assert OmegaConf.merge(cfg, written) == cfg  # nothing wins over it but the command line
        override = overrides[0]
    made = experiment(*overrides, f"store={tmp_path / 'store'}")
    planned = made.store.plan([step.masks for step in made.steps.values()])
    assert sum(line.depth == 0 for line in planned) == len(made.steps)
    # Nothing of it is there, and nothing of it is left out: without a step the images alone are asked for.
    assert {line.stage.id for line in planned} | {s.id for s in made.pool.walk()} == {s.id for s in made.stages()}
    assert {line.status for line in planned} <= {"build", "on the fly", "see above"}
    expected = {"oxford_pet": OxfordPet, "image_folder": ImageFolder, "voc": Voc, "coco": Coco, "toy_scenes": ToyScenes}
    expected |= {"annotations": Annotations}
    if group == "experiment":
        override = f"data={shown}"
    assert isinstance(made.source, expected.get(override.removeprefix("data="), ToyPets))
    assert made.pool.task == ("classes" if override in MANY else "foreground")


def test_the_keys_of_the_groups_without_a_stage():
    """What the schema lets pass is what conf/ writes, and what reads it knows; each default is written once."""
    cfg, bare = compose("config"), OmegaConf.structured(schema.Config)
    assert set(cfg.runtime) - {"_target_"} == {f.name for f in dataclasses.fields(Runtime)}
    assert set(cfg.checkpoints) == {"classifier", "affinity", "segmenter"}
    written = yaml.safe_load((CONF / "common.yaml").read_text())
    for group in ("evaluation", "export"):
        assert written[group] == dict(bare[group]) == dict(cfg[group]), group


@pytest.mark.parametrize("supervision", SUPERVISIONS)
@pytest.mark.parametrize("refiner", ["affinity", "none"])
def test_all_combinations(supervision, refiner):
    for segmenter in ("none", "unet"):
        made = experiment(f"supervision={supervision}", f"refiner={refiner}", f"segmenter={segmenter}")
        stages = made.stages()
        assert any(isinstance(s, SUPERVISIONS[supervision]) for s in stages) == (
            supervision != "mask" or refiner != "none" or segmenter != "none"
        )
        assert any(isinstance(s, Walk) for s in stages) == (refiner != "none")
        predicted = [s for s in stages if isinstance(s, Predicted)]
        assert len(predicted) == (segmenter != "none")
        if predicted:
            learnt = predicted[0].segmenter.masks
            assert isinstance(learnt, Threshold)
            assert isinstance(learnt.scores, SUPERVISIONS[supervision] if refiner == "none" else Walk)


@pytest.mark.parametrize("refiner", REFINERS)
def test_a_refiner_of_images_takes_the_scores_and_hands_on_masks(refiner):
    made = experiment(f"refiner={refiner}", "colocalise=pca", "threshold=0.3", "segmenter=unet")
    stages = [s for s in made.stages() if isinstance(s, REFINERS[refiner])]
    assert len(stages) == 1 and isinstance(stages[0].scores, Colocalised)
    masks = made.steps["refined masks"].masks
    assert masks.scores is stages[0]
    # Those that keep the scores' range are cut at the scores' threshold.
    assert masks.threshold == (0.3 if refiner in ("pamr", "superpixels") else 0.5)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["supervision=cam"], 0),
        (["supervision=bbox"], 324),  # of heads: its scale
        (["supervision=body_bbox", "colocalise=none"], 300),  # its threshold
        (["supervision=body_bbox"], 437),  # in_boxes.fill, which the others do not use
    ],
)
def test_masks_that_chose_a_value_count_where_it_is_used(overrides, expected):
    made = experiment("pipeline=cam", "colocalise=appearance", "threshold=0.5", *overrides)
    assert made.masks_used["seeds"] == expected

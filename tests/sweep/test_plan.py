"""Which jobs a sweep has."""

import re
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from seg.config.paths import CONF
from seg.config.spans import expand_arguments
from seg.sweep.plan import make_plan


def test_the_plan():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        plan = make_plan({"threshold": "0.1..0.2"}, ["seed=0,1", "epoch=3,1", "data.size=64"], loader)
        assert plan.swept == {"epoch": ["3", "1"], "threshold": ["0.1", "0.2"], "seed": ["0", "1"]}
        assert [job.folder for job in plan.jobs[:3]] == [
            "epoch=3,threshold=0.1,seed=0",
            "epoch=3,threshold=0.1,seed=1",
            "epoch=3,threshold=0.2,seed=0",
        ]
        assert plan.jobs[0].overrides == ("data.size=64", "epoch=3", "threshold=0.1", "seed=0")
        assert make_plan({"epoch": "1..9"}, ["epoch=5"], loader).swept == {}
        # Hydra's own sweeps, and no binary fractions from its range().
        assert make_plan({}, ["threshold=range(0.1,1.0,0.1)"], loader).swept["threshold"] == [
            f"0.{i}" for i in range(1, 10)
        ]
        globbed = make_plan({}, ["supervision=glob(*)"], loader).swept["supervision"]
        assert set(globbed) == {path.stem for path in (CONF / "supervision").glob("*.yaml")}
        assert make_plan({}, ["epoch=choice(2,4)"], loader).swept["epoch"] == ["2", "4"]


def folder_of(*arguments):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return make_plan({}, expand_arguments(list(arguments)), loader).folder("cam").as_posix()


def test_the_name_comes_from_what_can_change_a_figure():
    plain = folder_of("threshold=0.1..0.3", "epoch=1..3")
    assert plain == "outputs/sweeps/cam/epoch=1..3,threshold=0.1..0.3"
    for aside in ("store=x", "runtime.threads=1", "figures=true", "export.masks=true", "hydra/launcher=basic"):
        assert folder_of("epoch=1..3", "threshold=0.1..0.3", aside) == plain
    for other in ("seed=1", "data.size=64", "seeds.clean_up=[fill_holes]", "precision=bf16-mixed"):
        assert folder_of("epoch=1..3", "threshold=0.1..0.3", other) != plain
    assert folder_of("pipeline=cam,bbox") == "outputs/sweeps/several/pipeline=cam+bbox"
    path = folder_of("epoch=1..3", "weights=/home/me/b@c.pt")  # of a path only its end is in it
    assert re.fullmatch(r"outputs/sweeps/cam/epoch=1\.\.3,weights=b-c\.pt-[0-9a-f]{8}", path)
    assert path != folder_of("epoch=1..3", "weights=/home/you/b@c.pt")
    assert "data.root=photos-" in folder_of("epoch=1..3", "data.root=/x/photos/")
    assert re.fullmatch(r".*/data\.root=x\+y-[0-9a-f]{8}", folder_of("data.root=/home/me/x,/home/me/y"))
    assert len(Path(folder_of("epoch=1..3", f"weights={'w' * 300}")).name) < 150

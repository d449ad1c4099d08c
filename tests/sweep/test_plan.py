"""Which jobs a sweep has."""

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from seg.config.paths import CONF
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
        assert set(globbed) == {"bbox", "body_bbox", "cam", "mask"}
        assert make_plan({}, ["epoch=choice(2,4)"], loader).swept["epoch"] == ["2", "4"]

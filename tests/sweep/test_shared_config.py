"""The configs of a sweep's jobs, composed once."""

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from seg.config.paths import CONF
from seg.sweep.shared_config import SharedConfigs


def test_a_shared_config_is_the_one_that_hydra_composes():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        master = compose("config", ["epoch=1"], return_hydra_config=True)
        inner = GlobalHydra.instance().config_loader()
        sharing = SharedConfigs(inner)
        jobs = [
            ["epoch=1", "threshold=0.5", "seeds.clean_up=[]"],
            ["epoch=2", "threshold=0.3", "seeds.clean_up=[fill_holes]"],
            ["epoch=3", "supervision=bbox", "threshold=0.3"],
            ["epoch=4", "supervision=bbox", "threshold=0.2"],
            ["epoch=4", "supervision=mask", "threshold=0.2"],
        ]
        for job in jobs:
            ours, theirs = sharing.load_sweep_config(master, job), inner.load_sweep_config(master, job)
            assert OmegaConf.to_container(ours) == OmegaConf.to_container(theirs)
        assert len(sharing._templates) == 3
        assert sharing.load_sweep_config(master, jobs[0]).epoch == 1  # templates are not written to

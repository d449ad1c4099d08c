"""The wheel, the pinned versions, and what is published."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def call(*command, **options):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    built = call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_carries_the_code_and_the_configuration(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    wanted = {f"seg/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "seg").rglob("*") if path.suffix in (".py", ".html")}
    assert {"seg/conf/config.yaml", "seg/report/templates/run.html"} <= wanted
    assert wanted | {"seg/py.typed", "hydra_plugins/weakseg/sweeper.py"} <= names
    dist_info = f"weakseg-{wheel.name.split('-')[1]}.dist-info"
    assert {name.split("/")[0] for name in names} == {"seg", "hydra_plugins", dist_info}


def test_the_wheel_runs_outside_a_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = "import seg.run, sys; print(seg.__file__); sys.argv[1:] = ['--cfg', 'job']; seg.run.main()"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    shown = call(sys.executable, "-c", code, cwd=tmp_path, env=env)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"{tmp_path}/site/seg/__init__.py\n") and "\nthreshold: " in shown.stdout


def test_every_requirement_is_pinned_within_its_range():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "a name and an exact version only"
    pins = {re.sub(r"[_.-]+", "-", name).lower(): version for name, version in (x.split("==") for x in lines)}
    assert not [name for name in pins if re.match("nvidia|cuda|triton", name)]
    extras = PROJECT["optional-dependencies"]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *(x for extra in extras.values() for x in extra)]):
        if requirement.name == PROJECT["name"]:  # an extra that takes in others
            assert requirement.extras <= extras.keys()
        else:
            assert Version(pins[requirement.name.lower()]) in requirement.specifier, requirement


def test_what_is_published_about_it():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # those that the format demands
    assert cited["license"] == PROJECT["license"]
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert {"seg", "conf", "hydra_plugins", PROJECT["readme"], *PROJECT["license-files"]} <= {*copied}
    (extras,) = re.findall(r"'\.\[(.*)\]'", "\n".join(lines))
    assert {*extras.split(",")} <= PROJECT["optional-dependencies"].keys()

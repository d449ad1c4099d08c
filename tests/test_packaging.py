"""The wheel, the pinned versions, and the scripts that set everything up."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
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
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "weakseg = seg.run:main" in file.read(entry_points).decode()
    config = {f"seg/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert "seg/conf/config.yaml" in config <= names
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "seg").rglob("*.py")} <= names
    assert "seg/py.typed" in names
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "seg/report/templates").iterdir()}
    assert "seg/report/templates/run.html" in templates <= names
    assert "hydra_plugins/weakseg/sweeper.py" in names
    dist_info = f"weakseg-{wheel.name.split('-')[1]}.dist-info"
    assert {name.split("/")[0] for name in names} == {"seg", "hydra_plugins", dist_info}


def test_the_wheel_runs_outside_a_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    options = {"cwd": tmp_path / "work", "env": {**os.environ, "PYTHONPATH": str(tmp_path / "site")}}
    where = call(sys.executable, "-c", "import seg; print(seg.__file__)", **options)
    assert Path(where.stdout.strip()) == tmp_path / "site" / "seg" / "__init__.py"
    shown = call(sys.executable, "-m", "seg.run", "--cfg", "job", **options)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^threshold: ", shown.stdout, re.MULTILINE)


def test_every_requirement_is_pinned_within_its_range():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "a name and an exact version only"
    pins = {re.sub(r"[_.-]+", "-", name).lower(): version for name, version in (x.split("==") for x in lines)}
    assert not [name for name in pins if re.match("nvidia|cuda|triton", name)]
    wanted = [
        *PROJECT["dependencies"],
        *(x for extra in PROJECT["optional-dependencies"].values() for x in extra),
    ]
    own = [x for x in map(Requirement, wanted) if x.name == PROJECT["name"]]  # extras that take in others
    assert {extra for requirement in own for extra in requirement.extras} <= PROJECT["optional-dependencies"].keys()
    for requirement in (x for x in map(Requirement, wanted) if x not in own):
        assert Version(pins[requirement.name.lower()]) in requirement.specifier, requirement


# A Python that makes a virtual environment out of itself and writes down what pip is asked to do.
FAKE_PYTHON = """#!/bin/bash
case "$1 $2" in
    "-m venv") mkdir -p "$4/bin" && cp "$0" "$4/bin/python"; echo venv >>"$CALLS" ;;
    "-m pip") echo "$@" >>"$CALLS"; [[ -z "${PIP_FAILS:-}" ]] ;;
    "-m seg.run") shift 2; echo "run from $PWD: $*" ;;
    "-m benchmark") shift 2; echo "bench from $PWD with $PYTHONPATH: $*" ;;
    *) exec REAL "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout without an environment, in a folder that pip and bash could stumble over."""
    root = tmp_path / "a checkout [1]"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    fake = tmp_path / "fake" / "python3.11"
    fake.parent.mkdir()
    fake.write_text(FAKE_PYTHON.replace("REAL", sys.executable))
    fake.chmod(0o755)
    return root


def setup(root, what="run", *arguments, **extra):
    """What the script printed, and what it asked for: "venv" or pip's arguments."""
    calls = root.parent / "calls"
    calls.write_text("")
    path = f"{root.parent / 'fake'}:/usr/bin:/bin"
    env = {"PATH": path, "CALLS": str(calls), "HOME": str(root.parent), **extra}
    if arguments or what == "run":
        done = call(root / "scripts" / what, *arguments, env=env, cwd=root.parent)
    else:
        done = call("bash", "-euc", f'source "$0" && setup {what}', root / "scripts" / "_setup.sh", env=env, cwd="/")
    return done, calls.read_text().splitlines()


INSTALL = "-m pip install --quiet -c constraints.txt -e ."


def test_setup_installs_once_and_runs_where_it_was_called(checkout):
    done, calls = setup(checkout, "run", "pipeline=cam", "note=two words")
    assert done.returncode == 0, done.stderr
    assert calls == ["venv", INSTALL]
    assert done.stdout == f"run from {checkout.parent}: pipeline=cam note=two words\n"
    assert setup(checkout)[1] == []


def test_each_use_installs_its_extras_once_and_again_after_a_change(checkout):
    assert setup(checkout, "test")[1] == ["venv", INSTALL + "[test,dev,docs]"]
    assert setup(checkout, "bench")[1] == [INSTALL + "[bench]"]
    assert setup(checkout, "bench")[1] == setup(checkout, "test")[1] == setup(checkout)[1] == []
    with (checkout / "constraints.txt").open("a") as file:
        file.write("# another line\n")
    assert setup(checkout)[1] == [INSTALL]


def test_a_failed_or_broken_install_is_done_again(checkout):
    done, _ = setup(checkout, PIP_FAILS="yes")
    assert done.returncode == 1
    assert "error: the packages could not be installed" in done.stderr
    assert "run from" not in done.stdout
    assert setup(checkout)[1] == [INSTALL]
    (checkout / ".venv" / "bin" / "python").unlink()  # as if making the environment had been cut off
    assert setup(checkout)[1][0] == "venv"


def test_without_a_new_enough_python_one_line_says_so(checkout):
    tools = checkout.parent / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "env", "cat"):
        (tools / tool).symlink_to(shutil.which(tool))
    old = tools / "python3"
    old.write_text("#!/bin/bash\nexit 1\n")
    old.chmod(0o755)
    done, calls = setup(checkout, PATH=str(tools))
    assert done.returncode == 1
    assert calls == []
    assert done.stderr.startswith("error: Python 3.11 or newer was not found")
    assert len(done.stderr.splitlines()) == 1

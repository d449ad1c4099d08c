"""A full disk, a limit on file sizes, a store to read only, Ctrl-C: a line each, and the right exit status."""

import errno
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from within import TINY, TOYS, call, succeed

from seg import experiment, pipeline
from seg.store.run_folders import new_folder
from seg.sweep import summary
from seg.train.loop import Loop


@contextmanager
def files_of_at_most(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_in_the_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("hydra.core.utils._save_config", full)
    status, said = call(tmp_path, *TINY, "hydra.run.dir=out")
    assert (status, said.count("\n")) == (1, 0) and "No space left on device; make room" in said, said
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "remember_run", full)
    status, said = call(tmp_path, *TINY, "hydra.run.dir=out")
    assert status == 1 and "Traceback" not in said, said
    assert "No space left on device" in said and "hydra.run.dir=" in said


def test_a_sweep_stops_at_a_full_disk(tmp_path, monkeypatch):
    trained, train = [], Loop._epoch
    monkeypatch.setattr(Loop, "_epoch", lambda loop, epoch: [trained.append(epoch), train(loop, epoch)][1])
    arguments = [*TOYS, "threshold=0.5", "figures=false", "-m", "epoch=1..3", "hydra.sweep.dir=sweep"]
    with files_of_at_most(2**19):
        status, said = call(tmp_path, *arguments)
    assert status == 1 and "Traceback" not in said, said
    assert said.count("error: Classifier") == 1 and trained == [1], said  # the weights of an epoch are larger
    assert "outputs/store: File too large" in said
    assert "the same command continues the sweep" in said


def test_a_summary_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    arguments = [*TOYS, "epoch=1", "figures=false", "-m", "threshold=0.4,0.5", "hydra.sweep.dir=sweep"]
    monkeypatch.setattr(summary, "draw_sweep", full)
    status, said = call(tmp_path, *arguments)
    assert status == 1 and "error: sweep: sweep: No space left on device" in said, said
    monkeypatch.setattr(summary, "draw_sweep", lambda *_: 1 / 0)
    assert call(tmp_path, *arguments)[0] == 1


def test_runs_that_start_at_once_have_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_folder(tmp_path / "deep" / "run"), range(8)))
    assert sorted(x.name for x in made) == sorted(["run", *(f"run_{n}" for n in range(2, 9))])
    for _ in range(2):
        succeed(tmp_path, *TINY, "hydra.run.dir='runs/${now:%Y}'")
    one, two = sorted((tmp_path / "runs").iterdir())
    assert two.name == f"{one.name}_2" and all((x / "metrics.csv").is_file() for x in (one, two))
    assert (two / ".hydra/config.yaml").is_file() and (two / "run.log").is_file()


def test_a_store_to_read_only_does_if_all_is_there(tmp_path, monkeypatch):
    assert call(tmp_path, *TINY, "hydra.run.dir=one")[0] == 0

    def contents():
        return {path: path.read_bytes() for path in (tmp_path / "outputs/store").rglob("*") if path.is_file()}

    before = contents()
    monkeypatch.setattr(experiment, "writable", lambda place: place.name != "store")
    monkeypatch.setattr("seg.store.store.locked", lambda *_, **__: pytest.fail("a lock was asked for"))
    succeed(tmp_path, *TINY, "hydra.run.dir=two")
    assert (tmp_path / "one/metrics.csv").read_bytes() == (tmp_path / "two/metrics.csv").read_bytes()
    assert [path.parent.name for path, content in contents().items() if content != before.get(path)] == ["runs"]
    status, said = call(tmp_path, *TINY, "seed=3", "hydra.run.dir=two")
    assert status == 1 and "outputs/store: cannot be written to" in said, said


PROGRAM = """
import logging, sys
from seg.errors import entrypoint
with entrypoint():
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    print("caf\\udce9", flush=True)
    for i in range(100_000):
        print("line") if {printed} else logging.info("line")
"""


@pytest.mark.parametrize("printed", [True, False])
def test_a_closed_pipe_is_no_error_and_a_name_that_is_no_text_is_printed(printed):
    program = PROGRAM.format(printed=printed)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"caf\\udce9\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == (141 if printed else 0)


def test_help_into_a_closed_pipe():
    command = [sys.executable, "-u", "-m", "seg.run", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_interrupt_is_one_line(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupt)
    assert call(tmp_path, *TINY, "hydra.run.dir=out") == (130, "\ninterrupted; what was built is kept\n")

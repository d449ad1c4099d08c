"""What a machine runs out of is one line, and nothing else is taken for it."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from seg.errors import SegError
from seg.store import Stage, Store
from seg.store.trouble import out_of


class Greedy(Stage):
    """Asks for what no machine has."""

    of: str

    def build(self, out: Path, store: Store) -> None:
        if self.of == "torch":
            torch.empty(2**60, dtype=torch.uint8)
        if self.of == "numpy":
            np.empty(2**60, np.uint8)
        if self.of == "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise RuntimeError("something else")


@pytest.mark.parametrize("of", ["torch", "numpy"])
def test_no_memory_is_one_line(new_store: Store, of: str) -> None:
    with pytest.raises(SegError, match=r"^Greedy \w+: out of memory \(.*\); lower runtime\.batch_size") as caught:
        new_store.get(Greedy(of=of))
    assert len(str(caught.value).splitlines()) == 1 and caught.value.__cause__ is not None


def test_no_space_is_one_line(new_store: Store) -> None:
    with pytest.raises(SegError, match=rf"no space left for {new_store.root}; make room"):
        new_store.get(Greedy(of="disk"))


def test_other_errors_stay_what_they_are(new_store: Store) -> None:
    with pytest.raises(RuntimeError, match="something else"):
        new_store.get(Greedy(of="nothing"))
    assert out_of(SegError("x: no such file"), "x", "store") is None


def test_what_the_libraries_say() -> None:
    cuda = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
    assert "CUDA out of memory. Tried to allocate 2.00 GiB.)" in str(out_of(cuda, "x", "store"))
    safetensors = Exception("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "no space left" in str(out_of(safetensors, "x", "store"))
    torch_save = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 2769088 vs 2768984")
    assert "no space left" in str(out_of(torch_save, "x", "store"))
    for failing in (
        OSError(errno.EIO, os.strerror(errno.EIO)),
        Exception("Error while serializing: I/O error: Input/output error (os error 5)"),
    ):
        assert str(out_of(failing, "x", "store")).startswith("x: the disk of store fails (input/output error)")

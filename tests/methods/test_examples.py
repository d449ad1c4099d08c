"""Every public method has an example that runs; on arrays alone."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import seg.methods

MODULES = sorted({getattr(seg.methods, name).__module__ for name in seg.methods.__all__})


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    assert not doctest.testmod(importlib.import_module(module)).failed


def test_every_public_method_has_an_example() -> None:
    without = [name for name in seg.methods.__all__ if ">>>" not in (getattr(seg.methods, name).__doc__ or "")]
    assert not without
    codes = f"{seg.methods.__name__}.codes"
    assert [f"seg.methods.{m.name}" for m in pkgutil.iter_modules(seg.methods.__path__)] == sorted([*MODULES, codes])


def test_methods_need_neither_store_nor_config() -> None:
    code = (
        "import sys, seg.methods; print([m for m in ('hydra', 'omegaconf', 'pandas', 'matplotlib', 'torchvision', "
        "'skimage', 'seg.store', 'seg.config', 'seg.data') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

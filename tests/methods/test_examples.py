"""The example of each method runs, on arrays alone."""

import doctest
import importlib
import pkgutil

import pytest

import seg.methods


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(seg.methods.__path__)])
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"seg.methods.{name}"))
    assert found.attempted and not found.failed

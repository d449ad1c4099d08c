"""Stages and their store: each product is computed once, and named by a hash of what it was computed from."""

from seg.store.parameters import Parameters as Parameters
from seg.store.parameters import param as param
from seg.store.runtime import Runtime as Runtime
from seg.store.stage import Products as Products
from seg.store.stage import Stage as Stage
from seg.store.store import Store as Store

"""A line of the table: a measurement of ours beside one by another name, and the goal."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmark.measure import Sample


@dataclass(frozen=True)
class Goal:
    """What is wanted.

    Attributes:
        of: ``speed``, the baseline's time through ours; ``cost``, ours through the baseline's; ``value``, ours itself.
        bound: at least this for ``speed``, at most this for the others.
    """

    of: Literal["speed", "cost", "value"]
    bound: float

    def figure(self, ours: Sample, base: Sample | None) -> float:
        """The number that is held against the bound."""
        if self.of == "value" or base is None:
            return ours.median
        return base.median / ours.median if self.of == "speed" else ours.median / base.median

    def met(self, figure: float) -> bool:
        """Whether ``figure`` is good enough."""
        return figure >= self.bound if self.of == "speed" else figure <= self.bound


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: what was measured. ours: how it came out.
        against: the baseline's name; empty where ours has a goal of its own.
        base: how the baseline came out.
        goal: what is wanted; None for a row that only informs.
        compare: how the ratio is formed where there is no goal.
        note: what has to be known to read the figures: sizes, differences of results, the limit.
    """

    what: str
    ours: Sample
    against: str = ""
    base: Sample | None = None
    goal: Goal | None = None
    compare: Literal["speed", "cost"] = "speed"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours against the baseline, as the goal forms it; None without a baseline."""
        if self.base is None:
            return None
        return (self.goal or Goal(self.compare, 0)).figure(self.ours, self.base)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.goal is None else self.goal.met(self.goal.figure(self.ours, self.base))

    @property
    def goal_text(self) -> str:
        """The goal as the table shows it."""
        if self.goal is None:
            return ""
        if self.goal.of == "value":
            return f"<= {self.goal.bound:g} {self.ours.unit}"
        return f">= {self.goal.bound:g}x the speed" if self.goal.of == "speed" else f"<= {self.goal.bound:g}x"

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with what follows from the measurements beside them."""
        return {
            "what": self.what,
            "ours": _sample(self.ours),
            "against": self.against,
            "baseline": None if self.base is None else _sample(self.base),
            "ratio": self.ratio,
            "goal": None if self.goal is None else asdict(self.goal),
            "met": self.met,
            "note": self.note,
        }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "median": sample.median,
        "spread": sample.spread,
        "n": len(sample.values),
        "unit": sample.unit,
        "values": list(sample.values),
    }

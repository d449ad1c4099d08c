"""Numbers and names for people."""

from seg.format import duration, shorten, size


def test_durations_and_sizes_for_people() -> None:
    assert [duration(x) for x in (None, 0.04, 9.96, 38, 725, 11040)] == [
        "–", "0.0 s", "10.0 s", "38 s", "12 min 5 s", "3 h 4 min",
    ]  # fmt: skip
    assert [size(x) for x in (None, 0, 999, 1200, 45_300_000, 9.99e5)] == [
        "–",
        "0 B",
        "999 B",
        "1.2 kB",
        "45 MB",
        "999 kB",
    ]


def test_of_long_names_the_middle_goes() -> None:
    assert [shorten(x, 7) for x in ("", "seventy", "beagle_100")] == ["", "seventy", "bea…100"]

"""Numbers and names for people."""

from seg.format import duration, shorten, size


def test_durations_and_sizes_for_people():
    durations = {None: "–", 0.04: "0.0 s", 9.96: "10.0 s", 38: "38 s", 725: "12 min 5 s", 11040: "3 h 4 min"}
    assert {x: duration(x) for x in durations} == durations
    sizes = {None: "–", 0: "0 B", 999: "999 B", 1200: "1.2 kB", 9.99e5: "999 kB", 45_300_000: "45 MB"}
    assert {x: size(x) for x in sizes} == sizes


def test_of_long_names_the_middle_goes():
    assert [shorten(x, 7) for x in ("", "seventy", "beagle_100")] == ["", "seventy", "bea…100"]

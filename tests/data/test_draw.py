"""Which images become test."""

from seg.data.draw import draw_by_labels, draw_test_images


def test_the_draw_is_by_class_and_a_new_photo_changes_little() -> None:
    photos = [f"{c}/{i}.jpg" for c, n in (("cat", 20), ("dog", 10), ("rare", 1)) for i in range(n)]
    test = draw_test_images(photos, 0.2, 0)
    assert [sum(name.startswith(c) for name in test) for c in ("cat", "dog", "rare")] == [4, 2, 0]
    assert draw_test_images(reversed(photos), 0.2, 0) == test  # not by order
    assert draw_test_images(photos, 0.2, 1) != test
    assert draw_test_images(photos, 0, 0) == set()
    assert len(draw_test_images(photos, 0.99, 0)) == 19 + 9
    assert len(draw_test_images([*photos, "cat/new.jpg"], 0.2, 0) - test) <= 1


def test_a_draw_of_images_with_several_classes_leaves_some_of_each() -> None:
    labels = {f"{i}.jpg": ((0,), (0, 1), (1,), ())[i % 4] for i in range(40)} | {"rare.jpg": (0, 2)}
    test = draw_by_labels(labels, 0.2, 0)
    assert len(test) == 8 and "rare.jpg" not in test
    assert draw_by_labels(dict(reversed(labels.items())), 0.2, 0) == test  # not by order
    assert draw_by_labels(labels, 0.2, 1) != test
    assert len(draw_by_labels(labels | {"new.jpg": (1,)}, 0.2, 0) - test) <= 1
    most = draw_by_labels(labels, 0.99, 0)
    assert {label for name in labels if name not in most for label in labels[name]} == {0, 1, 2}
    # Not the last image of all, either, where none has a class.
    assert len(draw_by_labels({"a": (), "b": ()}, 0.9, 0)) == 1
    assert draw_by_labels({}, 0.5, 0) == draw_by_labels(labels, 0, 0) == set()

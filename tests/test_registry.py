"""Registries: what goes in comes out, nothing is replaced, an unknown name is answered."""

import pytest

from leadline.errors import LeadlineError
from leadline.registry import Registry, UnknownName


@pytest.fixture
def shapes() -> Registry[int]:
    """Shapes and their numbers of corners."""
    registry: Registry[int] = Registry("shape")
    for name, corners in (("square", 4), ("triangle", 3), ("circle", 0)):
        registry.register(name)(corners)
    return registry


def test_it_is_a_mapping_in_the_order_of_registration(shapes: Registry[int]) -> None:
    assert list(shapes) == ["square", "triangle", "circle"]
    assert dict(shapes.items()) == {"square": 4, "triangle": 3, "circle": 0}
    assert (len(shapes), shapes["triangle"], "square" in shapes, "cube" in shapes) == (3, 3, True, False)


def test_get_gives_the_default_of_an_unknown_name(shapes: Registry[int]) -> None:
    assert shapes.get("circle") == 0
    assert shapes.get("cube") is None
    assert shapes.get("cube", 8) == 8


def test_the_decorator_gives_back_what_it_enters() -> None:
    registry: Registry[object] = Registry("function")

    @registry.register("name in use")
    def function() -> str:
        return "called"

    assert function() == "called"
    assert registry["name in use"] is function


def test_a_name_is_given_once(shapes: Registry[int]) -> None:
    with pytest.raises(LeadlineError, match="^shape 'square' is registered already: choose another name$"):
        shapes.register("square")(5)
    assert shapes["square"] == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sqare", "^unknown shape 'sqare': did you mean 'square'[?]$"),
        ("xyz", "^unknown shape 'xyz': known: circle, square, triangle$"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(shapes: Registry[int], name: str, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        shapes[name]


def test_the_message_is_not_in_quotes(shapes: Registry[int]) -> None:
    """As that of a plain KeyError would be: `KeyError("a 'b'")` shows as "\\"a 'b'\\""."""
    with pytest.raises(UnknownName) as caught:
        shapes["xyz"]
    assert str(caught.value).startswith("unknown shape")
    assert isinstance(caught.value, KeyError)


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(LeadlineError, match="unknown metric 'bias': none are known"):
        Registry("metric")["bias"]

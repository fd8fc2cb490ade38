from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.errors import UserError
from runtimes.base import TensorInfo
from runtimes.shapes import ShapeRange, parse_shapes, require_profile, shape_ranges

IMAGES = TensorInfo("images", "float32", ("n", 3, "h", 64))
STATE = TensorInfo("state", "float32", ("n", 16))


def test_trtexecs_words_are_read() -> None:
    text = "images:1x3x224x224, layer/out:0:8,scalar:"
    assert parse_shapes(text) == {"images": (1, 3, 224, 224), "layer/out:0": (8,), "scalar": ()}
    assert parse_shapes("") == {}


@given(
    st.dictionaries(
        st.text("abc/_.:", min_size=1, max_size=8),
        st.lists(st.integers(0, 9999), max_size=5).map(tuple),
        max_size=4,
    )
)
def test_what_is_written_is_read(shapes: dict[str, tuple[int, ...]]) -> None:
    text = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
    assert parse_shapes(text) == shapes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1x3x224", "'1x3x224' is no input shape"),
        ("x:1x-3", "'x:1x-3' is no input shape"),
        ("x:1*3", "is no input shape"),
        (":1x3", "is no input shape"),
        ("x:1,x:2", "'x' has two shapes"),
    ],
)
def test_anything_else_is_an_error(text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse_shapes(text)
    assert words in str(error.value)


def test_three_texts_make_ranges() -> None:
    assert shape_ranges("x:1x4", "x:2x4", "x:8x4") == (ShapeRange("x", (1, 4), (2, 4), (8, 4)),)
    assert shape_ranges("", "x:2x4") == (ShapeRange("x", (2, 4), (2, 4), (2, 4)),)
    assert shape_ranges() == ()
    with pytest.raises(UserError, match="input 'x' has no shape in --opt-shapes, --max-shapes"):
        shape_ranges("x:1x4")
    with pytest.raises(UserError, match=r"do not rise .* largest: 4x4 \.\. 2x4 \.\. 8x4"):
        shape_ranges("x:4x4", "x:2x4", "x:8x4")
    with pytest.raises(UserError, match=r"different ranks: 4 \.\. 2x4 \.\. 8x4"):
        shape_ranges("x:4", "x:2x4", "x:8x4")


def of(info: TensorInfo, low: int, high: int) -> ShapeRange:
    def shape(size: int) -> tuple[int, ...]:
        return tuple(s if isinstance(s, int) else size for s in info.shape)

    return ShapeRange(info.name, shape(low), shape(low), shape(high))


def test_a_profile_says_everything_and_nothing_else() -> None:
    require_profile([IMAGES, STATE], [of(IMAGES, 1, 8), of(STATE, 1, 8)])
    fixed = TensorInfo("k", "float32", (2, 2))
    require_profile([fixed], [])
    require_profile([fixed], [of(fixed, 1, 1)])


@pytest.mark.parametrize(
    ("ranges", "words", "fix"),
    [
        ([of(IMAGES, 1, 8)], "'state' has dynamic axes", "--min-shapes state:1x16"),
        (
            [of(TensorInfo("image", "float32", ("n",)), 1, 8)],
            "'image', which is no input",
            "Did you mean 'images'?",
        ),
        ([ShapeRange("images", (1,), (1,), (1,))], "has 4 axes", "images:1x3x1x64"),
        (
            [ShapeRange("images", *[(1, 4, 8, 64)] * 3)],
            "axis 1 of input 'images' is 3 in the model",
            "Write 3 on axis 1",
        ),
        (
            [of(IMAGES, 1, 8), of(STATE, 1, 4)],
            "axis 'n' is (1, 1, 8) of input 'images' and (1, 1, 4) of input 'state'",
            "one size",
        ),
    ],
)
def test_what_does_not_fit_is_named(ranges: list[ShapeRange], words: str, fix: str) -> None:
    with pytest.raises(UserError) as error:
        require_profile([IMAGES, STATE], ranges)
    assert words in str(error.value)
    assert fix in error.value.fix

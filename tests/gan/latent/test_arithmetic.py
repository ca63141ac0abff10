import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from gan.latent.arithmetic import MAX_DEPTH, MAX_WEIGHT, Term, evaluate_expression, parse_expression
from gan.latent.vectors import draw

COUNT = 64
FACES = draw(COUNT, 6, 0)


def tiles():
    return st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=4).map(
        lambda numbers: ",".join(map(str, numbers))
    )


def weights():
    decimals = st.integers(0, 300).map(lambda hundredths: f"{hundredths / 100:.2f}")
    return st.one_of(st.sampled_from(["2", "0", ".5", "1.", "0.5", "007"]), decimals)


def parts(inner):
    return st.one_of(
        inner.map(lambda text: f"-{text}"),
        st.tuples(weights(), inner).map("*".join),
        st.lists(inner, min_size=1, max_size=3).flatmap(sums).map(lambda text: f"({text})"),
    )


def sums(items):
    signs = st.lists(st.sampled_from([" + ", "-", "+", " -"]), min_size=len(items), max_size=len(items))
    return signs.map(lambda chosen: "".join(map("".join, zip(chosen, items, strict=True))).lstrip(" +"))


PARTS = st.recursive(tiles(), parts, max_leaves=6)
SUMS = st.lists(PARTS, min_size=1, max_size=4).flatmap(sums)


def oracle(text: str) -> np.ndarray:
    """The value by Python's own arithmetic, with each list of tiles replaced by a look-up of its mean."""
    means = {}

    def look_up(match: re.Match) -> str:
        name = f"m{len(means)}"
        means[name] = FACES[[int(number) for number in match.group().split(",")]].mean(0, dtype=np.float64)
        return name

    bare = text.replace(" ", "")
    code = re.sub(r"(?<![\d.])\d+(,\d+)*(?![\d.,*])", look_up, bare)
    code = re.sub(r"(?<![\d.m])0+(?=\d)", "", code)
    return eval(code, {}, means)


def value(text: str) -> np.ndarray:
    return evaluate_expression(parse_expression(text, COUNT), FACES)


class TestValue:
    @given(SUMS)
    def test_any_expression_is_what_python_makes_of_it(self, text):
        assert np.allclose(value(text), oracle(text), rtol=1e-4, atol=1e-4), text

    def test_the_papers_sum_by_hand(self):
        expected = (
            (FACES[3] + FACES[17] + FACES[42]) / 3
            - (FACES[5] + FACES[8] + FACES[9]) / 3
            + (FACES[11] + FACES[12] + FACES[13]) / 3
        )
        result = value("3,17,42 - 5,8,9 + 11,12,13")
        assert result.dtype == np.float32
        assert np.allclose(result, expected, atol=1e-6)

    def test_a_weight_is_of_the_whole_list(self):
        assert np.allclose(value("2*5,7"), FACES[5] + FACES[7], atol=1e-6)

    @pytest.mark.parametrize("minus", ["−", "–"])
    def test_a_minus_may_come_from_a_typesetter(self, minus):
        assert parse_expression(f"{minus}3 {minus} 5,8", COUNT) == parse_expression("-3 - 5,8", COUNT)

    def test_a_value_that_no_float32_holds_is_told(self):
        huge = np.full((2, 6), 3e38, np.float32)
        assert np.array_equal(evaluate_expression(parse_expression("1", 2), huge), huge[1])
        for text in ("2*1", "-2*1", "0 + 1"):
            with pytest.raises(UserError, match="too large"):
                evaluate_expression(parse_expression(text, 2), huge)

    def test_one_tile_is_exactly_its_vector(self):
        assert np.array_equal(value("7"), FACES[7])
        assert np.array_equal(value(" ((007)) "), FACES[7])

    def test_a_tile_twice_counts_twice(self):
        assert np.allclose(value("5,5,8"), (2 * FACES[5] + FACES[8]) / 3, atol=1e-6)


class TestGroups:
    def test_they_are_in_the_order_of_the_text(self):
        assert parse_expression("3,17,42 - 5 + 0.5*(1,2 - 2*9)", COUNT) == (
            Term((3, 17, 42), 1.0),
            Term((5,), -1.0),
            Term((1, 2), 0.5),
            Term((9,), -1.0),
        )

    def test_signs_multiply_out(self):
        assert [group.weight for group in parse_expression("-(1 - -2 - (3 - 4))", COUNT)] == [-1, -1, 1, -1]

    def test_a_groups_mean(self):
        (group,) = parse_expression("-3*5,8", COUNT)
        assert group.weight == -3
        assert np.allclose(group.mean(FACES), (FACES[5] + FACES[8]) / 2, atol=1e-6)
        assert group.mean(FACES).dtype == np.float32


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "marked"),
        [
            ("3,17 - 64", ">>64<<"),
            ("3,99,17", ">>99<<"),
            ("3,", "3,>><<"),
            ("3 +", "3 +>><<"),
            ("+3", ">>+<<3"),
            ("3 17", "3 >>17<<"),
            ("(3", ">>(<<3"),
            ("3)", "3>>)<<"),
            ("()", "(>>)<<"),
            ("(3 17)", "(3 >>17<<)"),
            ("1.5", ">>1.5<<"),
            ("3,1.5", "3,>>1.5<<"),
            ("(3)*2", "(3)>>*<<2"),
            ("3,4*5", "3,4>>*<<5"),
            ("3,(4)", "3,>>(<<4)"),
            ("3,-4", "3,>>-<<4"),
            ("3 / 2", "3 >>/<< 2"),
            ("smile + 3", ">>s<<mile"),
            ("1e3", "1>>e<<3"),
            ("3²", "3>>²<<"),
            ("٣", ">>٣<<"),
            ("3 - __import__('os')", ">>_<<"),
            ("1001*3", ">>1001<<"),
            ("100*(1 + 11*3)", ">>11<<"),
        ],
    )
    def test_the_place_is_marked(self, text, marked):
        with pytest.raises(UserError) as error:
            parse_expression(text, COUNT)
        assert marked in str(error.value)

    def test_a_tile_outside_the_grid_is_named_with_the_range(self):
        with pytest.raises(UserError, match="from 0 to 63"):
            parse_expression("64", COUNT)
        assert parse_expression("63", COUNT)

    def test_an_empty_expression_shows_how(self):
        for text in ("", "   ", "\n"):
            with pytest.raises(UserError, match="empty"):
                parse_expression(text, COUNT)

    def test_endless_input_is_refused_in_one_short_line(self):
        for text in (
            "(" * 20_000,
            "-" * 20_000 + "3",
            "2*" * 20_000 + "3",
            "9" * 20_000,
            "9" * 20_000 + "*3",
            "\n%" * 999,
        ):
            with pytest.raises(UserError) as error:
                parse_expression(text, COUNT)
            assert len(str(error.value)) < 300
            assert "\n" not in str(error.value)

    def test_the_limits_themselves_are_allowed(self):
        assert parse_expression("-" * (MAX_DEPTH - 1) + "3", COUNT)
        assert parse_expression(f"{MAX_WEIGHT:.0f}*3", COUNT)
        assert len(parse_expression("+".join(["3"] * 5000), COUNT)) == 5000

    @given(st.one_of(st.text(), st.text(alphabet="0123456789.,*()+- ")))
    def test_garbage_never_raises_anything_else(self, text):
        try:
            groups = parse_expression(text, COUNT)
        except UserError as error:
            message = str(error)
        else:
            assert np.isfinite(evaluate_expression(groups, FACES)).all()
            message = ""
        assert "\n" not in message

    @given(SUMS, st.sampled_from("%x/&_;=²"), st.data())
    def test_a_strange_sign_is_marked_wherever_it_is(self, text, sign, data):
        # Not behind a point: cut off from its decimals, that would be the first thing wrong.
        places = [place for place in range(len(text) + 1) if text[place - 1 : place] != "."]
        place = data.draw(st.sampled_from(places))
        with pytest.raises(UserError, match=re.escape(f">>{sign}<<")):
            parse_expression(text[:place] + sign + text[place:], COUNT)

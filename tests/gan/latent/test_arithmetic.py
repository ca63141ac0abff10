import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from gan.latent.arithmetic import (
    MAX_DEPTH,
    MAX_WEIGHT,
    Shift,
    Term,
    evaluate_expression,
    parse_expression,
)
from gan.latent.directions import Direction, Directions
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


def terms(inner):
    return st.one_of(
        inner.map(lambda text: f"-{text}"),
        st.tuples(weights(), inner).map("*".join),
        st.lists(inner, min_size=1, max_size=3).flatmap(sums).map(lambda text: f"({text})"),
    )


def sums(items):
    signs = st.lists(st.sampled_from([" + ", "-", "+", " -"]), min_size=len(items), max_size=len(items))
    return signs.map(lambda chosen: "".join(map("".join, zip(chosen, items, strict=True))).lstrip(" +"))


TERMS = st.recursive(tiles(), terms, max_leaves=6)
SUMS = st.lists(TERMS, min_size=1, max_size=4).flatmap(sums)


def expected_value(text: str) -> np.ndarray:
    """The value computed by Python, with each list of tiles replaced by a variable for its mean."""
    means = {}

    def variable(match: re.Match) -> str:
        name = f"m{len(means)}"
        means[name] = FACES[[int(number) for number in match.group().split(",")]].mean(0, dtype=np.float64)
        return name

    bare = text.replace(" ", "")
    code = re.sub(r"(?<![\d.])\d+(,\d+)*(?![\d.,*])", variable, bare)
    code = re.sub(r"(?<![\d.m])0+(?=\d)", "", code)
    return eval(code, {}, means)


def value(text: str) -> np.ndarray:
    return evaluate_expression(parse_expression(text, COUNT), FACES)


class TestValue:
    @given(SUMS)
    def test_value_equals_that_of_python(self, text):
        assert np.allclose(value(text), expected_value(text), rtol=1e-4, atol=1e-4), text

    def test_sum_of_the_paper(self):
        expected = (
            (FACES[3] + FACES[17] + FACES[42]) / 3
            - (FACES[5] + FACES[8] + FACES[9]) / 3
            + (FACES[11] + FACES[12] + FACES[13]) / 3
        )
        result = value("3,17,42 - 5,8,9 + 11,12,13")
        assert result.dtype == np.float32
        assert np.allclose(result, expected, atol=1e-6)

    def test_weight_applies_to_the_whole_list(self):
        assert np.allclose(value("2*5,7"), FACES[5] + FACES[7], atol=1e-6)

    @pytest.mark.parametrize("minus", ["−", "–"])
    def test_typographic_minus(self, minus):
        assert parse_expression(f"{minus}3 {minus} 5,8", COUNT) == parse_expression("-3 - 5,8", COUNT)

    def test_float32_overflow(self):
        huge = np.full((2, 6), 3e38, np.float32)
        assert np.array_equal(evaluate_expression(parse_expression("1", 2), huge), huge[1])
        for text in ("2*1", "-2*1", "0 + 1"):
            with pytest.raises(UserError, match="too large"):
                evaluate_expression(parse_expression(text, 2), huge)

    def test_single_tile_is_exact(self):
        assert np.array_equal(value("7"), FACES[7])
        assert np.array_equal(value(" ((007)) "), FACES[7])

    def test_repeated_tile_counts_twice(self):
        assert np.allclose(value("5,5,8"), (2 * FACES[5] + FACES[8]) / 3, atol=1e-6)


class TestTerms:
    def test_terms_are_in_the_order_of_the_text(self):
        assert parse_expression("3,17,42 - 5 + 0.5*(1,2 - 2*9)", COUNT) == (
            Term((3, 17, 42), 1.0),
            Term((5,), -1.0),
            Term((1, 2), 0.5),
            Term((9,), -1.0),
        )

    def test_signs_are_multiplied_out(self):
        assert [term.weight for term in parse_expression("-(1 - -2 - (3 - 4))", COUNT)] == [-1, -1, 1, -1]

    def test_mean_of_a_term(self):
        (term,) = parse_expression("-3*5,8", COUNT)
        assert term.weight == -3
        assert np.allclose(term.mean(FACES), (FACES[5] + FACES[8]) / 2, atol=1e-6)


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


class TestDirections:
    directions = Directions(
        "", {"smile": Direction(unit(1, 2, 0, 0, 0, 0), ""), "лицо_2": Direction(unit(0, 0, 1, -1, 0, 0), "")}
    )

    def value(self, text: str) -> np.ndarray:
        return evaluate_expression(parse_expression(text, COUNT, self.directions), FACES, self.directions)

    def test_the_sum_of_the_faces_is_moved_once(self):
        moved = self.directions.move((FACES[3] - FACES[4]).astype(np.float32), {"smile": 1.5, "лицо_2": -1})
        for text in ("3 - 4 + 1.5*smile - лицо_2", "-лицо_2 + 3 + smile + (0.5*smile - 4)"):
            assert np.array_equal(self.value(text), moved)

    def test_weights_multiply_out(self):
        assert np.allclose(self.value("2*(3 + smile)"), self.value("2*3 + 2*smile"))
        assert np.array_equal(self.value("3 + smile - smile"), FACES[3])
        assert parse_expression("3 - 0.5*-smile", COUNT, self.directions)[1] == Shift("smile", 0.5)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("3 + grin", r">>grin<<: no such direction; the directions of this generator are smile, лицо_2"),
            ("3,smile", r"3,>>smile<<: expected a face number"),
            ("smile,3", r"smile>>,<<3"),
            ("smile 3", r"smile >>3<<"),
            ("3 smile", r"3 >>smile<<"),
            ("smile*3", r"smile>>\*<<3"),
            ("3 + 101*smile", r"the strength of a direction exceeds 100"),
            ("1.5*smile", r"has no face: a direction moves one, as in 17 \+ smile"),
        ],
    )
    def test_mistakes_are_marked(self, text, message):
        with pytest.raises(UserError, match=message):
            parse_expression(text, COUNT, self.directions)


class TestErrors:
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
            ("smile + 3", ">>smile<< + 3: no such direction; this generator has no directions yet"),
            ("1e3", "1>>e3<<"),
            ("3²", "3>>²<<"),
            ("٣", ">>٣<<"),
            ("3 - __import__('os')", ">>'<<"),
            ("1001*3", ">>1001<<"),
            ("100*(1 + 11*3)", ">>11<<"),
        ],
    )
    def test_error_position_is_marked(self, text, marked):
        with pytest.raises(UserError) as error:
            parse_expression(text, COUNT)
        assert marked in str(error.value)

    def test_tile_out_of_range(self):
        with pytest.raises(UserError, match="from 0 to 63"):
            parse_expression("64", COUNT)
        assert parse_expression("63", COUNT)

    def test_empty_expression(self):
        for text in ("", "   ", "\n"):
            with pytest.raises(UserError, match="empty"):
                parse_expression(text, COUNT)

    def test_very_long_input_gives_a_short_message(self):
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

    def test_limits_are_inclusive(self):
        assert parse_expression("-" * (MAX_DEPTH - 1) + "3", COUNT)
        assert parse_expression(f"{MAX_WEIGHT:.0f}*3", COUNT)
        assert len(parse_expression("+".join(["3"] * 5000), COUNT)) == 5000

    @given(st.one_of(st.text(), st.text(alphabet="0123456789.,*()+- ")))
    def test_invalid_input_raises_only_user_errors(self, text):
        try:
            terms = parse_expression(text, COUNT)
        except UserError as error:
            message = str(error)
        else:
            assert np.isfinite(evaluate_expression(terms, FACES)).all()
            message = ""
        assert "\n" not in message

    @given(SUMS, st.sampled_from("%/&;=²"), st.data())
    def test_unexpected_character_is_marked(self, text, sign, data):
        # Not after a decimal point: the point would be the first error.
        places = [place for place in range(len(text) + 1) if text[place - 1 : place] != "."]
        place = data.draw(st.sampled_from(places))
        with pytest.raises(UserError, match=re.escape(f">>{sign}<<")):
            parse_expression(text[:place] + sign + text[place:], COUNT)

"""Parse and evaluate sums of latent vectors, such as `"3,17,42 - 5,8,9 + 11,12,13"` (Radford et al. 2015).

The grammar, which ignores spaces:

    sum       = term { ("+" | "-") term }
    term      = "-" term | weight "*" term | "(" sum ")" | tiles | direction
    tiles     = tile { "," tile }        their mean
    tile      = an integer               the number of a face in a grid, from 0
    direction = a name, such as smile    moves the sum of the faces, by the weight
    weight    = an integer or a decimal fraction, such as 2, 0.5 or .5

So "17 + 1.5*smile - glasses" is face 17, moved by 1.5 along `smile` and by -1 along `glasses`. The minus sign
(U+2212) and the en dash are equivalent to "-".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from gan.latent.directions import MAX_STRENGTH, Directions
from gan.latent.vectors import Latents

MAX_WEIGHT = 1000.0
"""Far more than any face needs, and too little to overflow float32."""

MAX_DEPTH = 50
"""Maximum nesting of parentheses, signs and weights."""

_MINUSES = str.maketrans("−–", "--")
_TOKEN = re.compile(r"[0-9]*\.[0-9]+|[0-9]+\.?|[-+*(),]|[^\W\d]\w*")


@dataclass(frozen=True)
class Term:
    """A term of the sum: the mean of a list of tiles, times `weight`."""

    tiles: tuple[int, ...]
    weight: float

    def mean(self, latents: Latents) -> NDArray[np.float64]:
        """The mean vector, float64 [size], given the vectors of all tiles, float32 [N, size]."""
        return latents[list(self.tiles)].mean(axis=0, dtype=np.float64)


@dataclass(frozen=True)
class Shift:
    """A term of the sum that moves the faces along the direction `name`, by `weight`."""

    name: str
    weight: float


def parse_expression(text: str, count: int, directions: Directions | None = None) -> tuple[Term | Shift, ...]:
    """Parse an expression over the tiles 0 to `count` - 1 and the names of directions.

    Parentheses and weights are multiplied out: the value of the expression is the sum of
    `term.weight * term.mean` over the terms, moved along the directions. Both are in the order of the text.

    Raises:
        UserError: the text does not follow the grammar, a tile is not below `count`, there is no such
            direction, the product of nested weights exceeds `MAX_WEIGHT` or, for a direction,
            `MAX_STRENGTH`. The message marks the place >>like this<<.
    """
    terms = tuple(_Parser(text, count, directions).parse())
    if not any(isinstance(term, Term) for term in terms):
        raise UserError(f"the expression {text[:60]} has no face: a direction moves one, as in 17 + smile")
    return terms


def evaluate_expression(
    terms: tuple[Term | Shift, ...], latents: Latents, directions: Directions | None = None
) -> Latents:
    """The value of a parsed expression, float32 [size], given the vectors of all tiles, float32 [N, size].

    Faces are summed first, then the sum is moved along the directions.

    Raises:
        UserError: the value overflows float32, as for vectors far outside any prior.
    """
    total: NDArray[np.float64] = np.zeros(latents.shape[1])
    strengths: dict[str, float] = {}
    for term in terms:
        if isinstance(term, Shift):
            strengths[term.name] = strengths.get(term.name, 0.0) + term.weight
        else:
            total += term.weight * term.mean(latents)
    if not (np.abs(total) < np.finfo(np.float32).max).all():
        raise UserError("the value of the expression is too large for float32: give smaller weights")
    faces = total.astype(np.float32)
    return faces if directions is None else directions.move(faces, strengths)


@dataclass(frozen=True)
class _Token:
    text: str
    start: int

    @property
    def is_number(self) -> bool:
        return self.text[:1].isdigit() or self.text[:1] == "."


class _Parser:
    """Recursive descent: each rule of the grammar has a method that parses it from the current token on."""

    def __init__(self, text: str, count: int, directions: Directions | None) -> None:
        self.text = text.translate(_MINUSES)
        self.count = count
        self.directions = directions or Directions("")
        self.tokens = list(self._tokenize())
        self.position = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def parse(self) -> Iterator[Term | Shift]:
        if not self.text.strip():
            raise UserError('the expression is empty; write a sum of face numbers, such as "3,17 - 5 + 11"')
        yield from self._sum(1.0)
        if self.token.text:
            raise self._error(self.token, "expected + or - or the end")

    def _sum(self, weight: float) -> Iterator[Term | Shift]:
        yield from self._term(weight)
        while self.token.text in ("+", "-"):
            sign = 1.0 if self._advance().text == "+" else -1.0
            yield from self._term(sign * weight)

    def _term(self, weight: float) -> Iterator[Term | Shift]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(self.token, f"more than {MAX_DEPTH} nested parentheses, signs and weights")
        if self.token.text == "-":
            self._advance()
            yield from self._term(-weight)
        elif self.token.text == "(":
            parenthesis = self._advance()
            yield from self._sum(weight)
            if self.token.text != ")":
                problem = "expected + or - or )" if self.token.text else "this parenthesis is never closed"
                raise self._error(self.token if self.token.text else parenthesis, problem)
            self._advance()
        elif self.token.text.isidentifier():
            yield self._shift(weight)
        elif not self.token.is_number:
            raise self._error(self.token, "expected a face number, a direction, a weight or (")
        else:
            yield from self._weight_or_tiles(weight)
        self.depth -= 1

    def _weight_or_tiles(self, weight: float) -> Iterator[Term | Shift]:
        number = self._advance()
        if self.token.text == "*":
            self._advance()
            weight *= float(number.text)
            if abs(weight) > MAX_WEIGHT:
                raise self._error(number, f"the product of the weights exceeds {MAX_WEIGHT:g}")
            yield from self._term(weight)
            return
        tiles = [self._tile(number)]
        while self.token.text == ",":
            self._advance()
            tiles.append(self._tile(self._advance()))
        yield Term(tuple(tiles), weight)

    def _shift(self, weight: float) -> Shift:
        token = self._advance()
        if token.text not in self.directions.names:
            raise self._error(token, f"no such direction; {self.directions.listing()}")
        if abs(weight) > MAX_STRENGTH:
            raise self._error(token, f"the strength of a direction exceeds {MAX_STRENGTH:g}")
        return Shift(token.text, weight)

    def _tile(self, token: _Token) -> int:
        if not token.is_number:
            raise self._error(token, "expected a face number")
        if "." in token.text:
            raise self._error(token, "a face number is an integer (a weight is followed by *)")
        # Python refuses to convert thousands of digits, so their number is compared first.
        digits = token.text.lstrip("0") or "0"
        if len(digits) > len(str(self.count)) or int(digits) >= self.count:
            raise self._error(token, f"no such face: they are numbered from 0 to {self.count - 1}")
        return int(digits)

    def _tokenize(self) -> Iterator[_Token]:
        position = 0
        while position < len(self.text):
            if self.text[position].isspace():
                position += 1
                continue
            match = _TOKEN.match(self.text, position)
            is_name = match is not None and match.group()[0] not in "0123456789.-+*(),"
            if match is None or (is_name and not match.group().isidentifier()):
                raise self._error(_Token(self.text[position], position), "unexpected character")
            yield _Token(match.group(), position)
            position = match.end()
        yield _Token("", len(self.text))

    def _advance(self) -> _Token:
        """Return the current token and go to the next one, if any."""
        token = self.token
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def _error(self, token: _Token, problem: str) -> UserError:
        end = token.start + len(token.text)
        before, after = self.text[: token.start][-60:], self.text[end:][:60]
        message = f"in the expression {before}>>{token.text[:40]}<<{after}: {problem}"
        return UserError(" ".join(message.split()))

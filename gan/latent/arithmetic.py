"""Sums of latent vectors, written as text: `"3,17,42 - 5,8,9 + 11,12,13"` (Radford et al. 2015).

The grammar, in which blanks mean nothing:

    sum    = part { ("+" | "-") part }
    part   = "-" part | weight "*" part | "(" sum ")" | tiles
    tiles  = tile { "," tile }           their mean
    tile   = an integer                  the number of a face in a grid, from 0
    weight = an integer or a decimal fraction, such as 2, 0.5 or .5

The minus sign and the dash of typesetters are as good as "-".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from gan.latent.vectors import Latents

MAX_WEIGHT = 1000.0
"""Far beyond anything that still gives a face; below what would overflow a float32."""

MAX_DEPTH = 50
"""How many brackets, signs and weights may be open at once."""

_MINUSES = str.maketrans("−–", "--")
_TOKEN = re.compile(r"[0-9]*\.[0-9]+|[0-9]+\.?|[-+*(),]")


@dataclass(frozen=True)
class Term:
    """A list of tiles as it enters the sum: its mean, `weight` times (negative: subtracted)."""

    tiles: tuple[int, ...]
    weight: float

    def mean(self, latents: Latents) -> Latents:
        """The mean of the group's vectors, float32 [size], from those of all tiles, [N, size]."""
        return latents[list(self.tiles)].mean(axis=0, dtype=np.float64).astype(np.float32)


def parse_expression(text: str, count: int) -> tuple[Term, ...]:
    """Read an expression over the tiles 0 to `count` - 1.

    Brackets and weights are multiplied out, so that the groups, in the order of the text, are all
    there is: the value of the expression is the sum of `group.weight * group.mean`.

    Raises:
        UserError: the text is not of the grammar above, a tile is not among the `count`, or a weight
            times those around it is above `MAX_WEIGHT`. The place is marked >>so<< in the message.
    """
    return tuple(_Parser(text, count).parse())


def evaluate_expression(groups: tuple[Term, ...], latents: Latents) -> Latents:
    """The value of a parsed expression, float32 [size], given the tiles' vectors, float32 [N, size].

    Raises:
        UserError: a float32 does not hold it, as where the vectors are far outside of any prior.
    """
    total: NDArray[np.float64] = np.zeros(latents.shape[1])
    for group in groups:
        total += group.weight * latents[list(group.tiles)].mean(axis=0, dtype=np.float64)
    if not (np.abs(total) < np.finfo(np.float32).max).all():
        raise UserError("the value of the expression is too large for any face: give smaller weights")
    return total.astype(np.float32)


@dataclass(frozen=True)
class _Token:
    text: str
    start: int

    @property
    def is_number(self) -> bool:
        return self.text[:1].isdigit() or self.text[:1] == "."


class _Parser:
    """Recursive descent: a method for each rule of the grammar, which reads it from `token` on."""

    def __init__(self, text: str, count: int) -> None:
        self.text = text.translate(_MINUSES)
        self.count = count
        self.tokens = list(self._split())
        self.position = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def parse(self) -> Iterator[Term]:
        if not self.text.strip():
            raise UserError('the expression is empty; write a sum of tile numbers, such as "3,17 - 5 + 11"')
        yield from self._sum(1.0)
        if self.token.text:
            raise self._error(self.token, "expected + or - or the end here")

    def _sum(self, weight: float) -> Iterator[Term]:
        yield from self._part(weight)
        while self.token.text in ("+", "-"):
            sign = 1.0 if self._advance().text == "+" else -1.0
            yield from self._part(sign * weight)

    def _part(self, weight: float) -> Iterator[Term]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(self.token, f"more than {MAX_DEPTH} brackets, signs and weights are open here")
        if self.token.text == "-":
            self._advance()
            yield from self._part(-weight)
        elif self.token.text == "(":
            bracket = self._advance()
            yield from self._sum(weight)
            if self.token.text != ")":
                problem = "expected + or - or ) here" if self.token.text else "this bracket is never closed"
                raise self._error(self.token if self.token.text else bracket, problem)
            self._advance()
        elif not self.token.is_number:
            raise self._error(self.token, "expected a tile number, a weight or ( here")
        else:
            yield from self._weight_or_tiles(weight)
        self.depth -= 1

    def _weight_or_tiles(self, weight: float) -> Iterator[Term]:
        number = self._advance()
        if self.token.text == "*":
            self._advance()
            weight *= float(number.text)
            if abs(weight) > MAX_WEIGHT:
                raise self._error(number, f"weights, multiplied out, go up to {MAX_WEIGHT:g}")
            yield from self._part(weight)
            return
        tiles = [self._tile(number)]
        while self.token.text == ",":
            self._advance()
            tiles.append(self._tile(self._advance()))
        yield Term(tuple(tiles), weight)

    def _tile(self, token: _Token) -> int:
        if not token.is_number:
            raise self._error(token, "expected a tile number here")
        if "." in token.text:
            raise self._error(token, "a tile number is an integer (a weight is followed by *)")
        # Compared by its digits first: Python refuses to read integers of thousands of digits.
        digits = token.text.lstrip("0") or "0"
        if len(digits) > len(str(self.count)) or int(digits) >= self.count:
            raise self._error(token, f"there is no such tile: they run from 0 to {self.count - 1}")
        return int(digits)

    def _split(self) -> Iterator[_Token]:
        position = 0
        while position < len(self.text):
            if self.text[position].isspace():
                position += 1
                continue
            match = _TOKEN.match(self.text, position)
            if match is None:
                raise self._error(_Token(self.text[position], position), "no part of an expression")
            yield _Token(match.group(), position)
            position = match.end()
        yield _Token("", len(self.text))

    def _advance(self) -> _Token:
        """Go to the next token, unless at the end; return the one just left."""
        left = self.token
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return left

    def _error(self, token: _Token, problem: str) -> UserError:
        end = token.start + len(token.text)
        before, after = self.text[: token.start][-60:], self.text[end:][:60]
        message = f"in the expression {before}>>{token.text[:40]}<<{after}: {problem}"
        return UserError(" ".join(message.split()))

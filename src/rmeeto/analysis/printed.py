"""Claims about counted figures: operations and tokens, which must round to what is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Integral, Real
from typing import Any, ClassVar

from rmeeto.analysis.finding import Counted, several
from rmeeto.errors import ConfigError


@dataclass(frozen=True)
class PrintedFigure:
    """A counted figure beside the printed one."""

    counted: float
    printed: str
    agrees: bool

    def to_dict(self) -> dict[str, Any]:
        """Its fields for JSON."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Printed:
    """Counted figures round to the printed ones, to the last printed digit. Nothing is left to chance.

    A figure half-way between two roundings may have been rounded either way. A float counts as the shortest decimal
    number that means it, so 3.585 is half-way although its binary value is not.
    """

    kind: ClassVar[str] = "printed"

    text: str

    def judge(self, cells: Mapping[str, tuple[float | Fraction | Decimal, str]]) -> Counted:
        """What the cells say: by name, a counted figure and the printed one as text, such as (3.5846, "3.58").

        Raises:
            ConfigError: no cells, or something that is no number.
        """
        found = {name: self._figure(name, *cell) for name, cell in several(self, cells).items()}
        wrong = {name: figure for name, figure in found.items() if not figure.agrees}
        if not wrong:
            every = "The counted figure rounds" if len(found) == 1 else f"All {len(found)} counted figures round"
            return Counted(self, True, f"{every} to what is printed.", found)
        name, figure = next(iter(wrong.items()))
        share = f"{len(wrong)} of {len(found)} figures differ; " if len(found) > 1 else ""
        return Counted(
            self, False, f"{share}{name} is {figure.counted:.8g} as counted, {figure.printed} as printed.", found
        )

    def _figure(self, name: str, counted: float | Fraction | Decimal, printed: str) -> PrintedFigure:
        shown = self._decimal(name, printed)
        exact = self._exact(name, counted)
        last_digit = Fraction(10) ** int(shown.as_tuple().exponent)
        return PrintedFigure(float(exact), printed, abs(exact - Fraction(shown)) <= last_digit / 2)

    def _decimal(self, name: str, text: str) -> Decimal:
        try:
            found = Decimal(text.replace(",", "").replace("−", "-")) if isinstance(text, str) else Decimal("NaN")
        except InvalidOperation:
            found = Decimal("NaN")
        if not found.is_finite():
            raise ConfigError(
                f"judge the claim {self.text!r}",
                given=f"{name}: printed {text!r}",
                why="the printed figure is a number as text, whose decimals count",
            )
        return found

    def _exact(self, name: str, value: object) -> Fraction:
        if isinstance(value, Integral | Fraction) and not isinstance(value, bool):
            return Fraction(int(value)) if isinstance(value, Integral) else value
        number = Decimal("NaN")
        if isinstance(value, Decimal):
            number = value
        elif isinstance(value, Real) and not isinstance(value, bool):
            number = Decimal(repr(float(value)))
        if not number.is_finite():
            raise ConfigError(
                f"judge the claim {self.text!r}", given=f"{name}: counted {value!r}", why="it is no finite number"
            )
        return Fraction(number)

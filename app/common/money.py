"""Money is an integer number of minor units and a currency, never a float."""

from dataclasses import dataclass
from typing import Any

CURRENCIES = {"NGN": 2, "USD": 2, "EUR": 2, "KES": 2, "GHS": 2}
"""Supported ISO 4217 codes and their number of decimals."""


@dataclass(frozen=True, slots=True)
class Money:
    """Minor units (kobo, cents) of one currency. Mixing currencies raises ValueError."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if self.currency not in CURRENCIES:
            raise ValueError(f"unknown currency {self.currency!r}")

    def __add__(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __mul__(self, factor: int) -> "Money":
        return Money(self.amount_minor * factor, self.currency)

    def __str__(self) -> str:
        """For people: `NGN 12,500.00`."""
        decimals = CURRENCIES[self.currency]
        sign = "-" if self.amount_minor < 0 else ""
        whole, rest = divmod(abs(self.amount_minor), 10**decimals)
        fraction = f".{rest:0{decimals}d}" if decimals else ""
        return f"{self.currency} {sign}{whole:,}{fraction}"

    def as_json(self) -> dict[str, Any]:
        """The wire form."""
        return {"amount_minor": self.amount_minor, "currency": self.currency}

"""Demo catalogue: invented products of African and Western fashion, the same on every machine.

Product number n depends on n alone, so a larger catalogue contains every smaller one.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

EPOCH = datetime(2026, 1, 5, 8, tzinfo=UTC)
"""When product 0 was made; each later one is a minute younger."""

SELLERS = (
    ("adire-house", "Adire House", "NG"),
    ("kente-and-co", "Kente & Co", "GH"),
    ("lagos-atelier", "Lagos Atelier", "NG"),
    ("nairobi-thread", "Nairobi Thread", "KE"),
    ("rue-denim", "Rue Denim", "FR"),
)
"""Slug, name and country of the warehouse."""

RATES = {"NGN": 1.0, "USD": 0.00066, "EUR": 0.00061, "KES": 0.085, "GHS": 0.0099}
"""What one naira is worth; demo prices only."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A garment: its median price in naira, its sizes, and what it may be made of."""

    name: str
    median: int
    sizes: tuple[str, ...]
    fabrics: tuple[str, ...]
    story: str


_SIZES = ("XS", "S", "M", "L", "XL", "XXL")
_WAISTS = ("28", "30", "32", "34", "36", "38")
_ONE = ("One size", "Large")
_PRINTS = ("Ankara", "Adire", "Kente", "Batik", "Bogolan")
_SUITING = ("Linen", "Wool", "Cotton", "Guinea Brocade")
_KINDS = (
    _Kind("Kaftan", 42_000, _SIZES, _PRINTS, "Falls straight from the shoulder, side slits."),
    _Kind("Agbada", 118_000, _SIZES, ("Aso Oke", "Guinea Brocade"), "Three pieces, hand stitched."),
    _Kind("Gele", 14_500, _ONE, ("Aso Oke", "Sego", "Damask"), "Two metres, holds its pleats."),
    _Kind("Boubou", 56_000, _SIZES, ("Bazin", "Batik", "Adire"), "Wide sleeves, open neckline."),
    _Kind("Wrap Skirt", 24_000, _SIZES, _PRINTS, "Ties at the waist, falls to the calf."),
    _Kind("Dashiki", 19_500, _SIZES, _PRINTS, "Loose, with an embroidered neckline."),
    _Kind("Iro and Buba", 64_000, _SIZES, ("Lace", "Adire", "Aso Oke"), "Blouse and wrapper."),
    _Kind("Shift Dress", 38_000, _SIZES, (*_PRINTS, "Linen"), "Lined, hidden zip in the back."),
    _Kind("Bomber Jacket", 72_000, _SIZES, (*_PRINTS, "Denim"), "Ribbed hem, two inside pockets."),
    _Kind("Jeans", 45_000, _WAISTS, ("Raw Denim", "Stretch Denim"), "Five pockets, tapered leg."),
    _Kind("Trench Coat", 145_000, _SIZES, ("Gabardine", "Waxed Cotton"), "Belted, storm flap."),
    _Kind("Blazer", 98_000, _SIZES, _SUITING, "Half canvas, two buttons."),
    _Kind("Oxford Shirt", 26_000, _SIZES, ("Cotton", "Linen", "Chambray"), "Button-down collar."),
    _Kind("Chinos", 31_000, _WAISTS, ("Cotton Twill", "Linen"), "Straight leg, clean front."),
)
_DARK = ("Indigo", "Emerald", "Onyx", "Burgundy", "Cobalt")
_COLOURS = (*_DARK, "Terracotta", "Saffron", "Ivory", "Sand")


@dataclass(frozen=True, slots=True)
class DemoVariant:
    """A size of a demo product; prices in minor units by currency."""

    public_id: UUID
    sku: str
    size: str
    prices: dict[str, int]
    on_hand: int


@dataclass(frozen=True, slots=True)
class DemoProduct:
    """One product of the demo catalogue; `seller` is an index into SELLERS."""

    public_id: UUID
    seller: int
    slug: str
    name: str
    description: str
    colour: str
    created_at: datetime
    variants: tuple[DemoVariant, ...]


def make_product(number: int) -> DemoProduct:
    """The demo product with this number."""
    dice = random.Random(f"fashionistar {number}")  # noqa: S311  # nothing here is a secret
    kind = _KINDS[number % len(_KINDS)]
    colour, fabric = dice.choice(_COLOURS), dice.choice(kind.fabrics)
    seller = min(int(dice.paretovariate(0.9)) - 1, len(SELLERS) - 1)  # few sellers have most
    created_at = EPOCH + timedelta(minutes=number)
    name = f"{colour} {fabric} {kind.name}"
    naira = round(kind.median * dice.lognormvariate(0, 0.25), -2)
    first = dice.randrange(max(1, len(kind.sizes) - 3))
    sizes = kind.sizes[first : first + dice.randint(2, len(kind.sizes))]
    stem = "".join(word[0] for word in (colour, *fabric.split(), *kind.name.split())).upper()
    variants = tuple(
        DemoVariant(
            public_id=_uuid7(created_at, dice),
            sku=f"{stem}-{number:06}-{size.split()[0].upper()}",
            size=size,
            prices={currency: int(naira * rate) * 100 for currency, rate in RATES.items()},
            on_hand=dice.randint(40, 240),
        )
        for size in sizes
    )
    return DemoProduct(
        public_id=_uuid7(created_at, dice),
        seller=seller,
        slug=f"{name.lower().replace(' ', '-')}-{number:06}",
        name=name,
        description=f"{kind.name} in {colour.lower()} {fabric.lower()}. {kind.story}",
        colour=colour,
        created_at=created_at,
        variants=variants,
    )


def _uuid7(moment: datetime, dice: random.Random) -> UUID:
    """A UUIDv7 of that moment whose random bits come from `dice`."""
    millis = int(moment.timestamp() * 1000)
    high = millis << 16 | 0x7000 | dice.getrandbits(12)
    return UUID(int=high << 64 | 0b10 << 62 | dice.getrandbits(62))

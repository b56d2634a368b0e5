"""Public identifiers, e.g. `ord_01j…`: TypeID (https://github.com/jetify-com/typeid).

A prefix says what the thing is; the suffix is a UUIDv7 in 26 characters of Crockford base32, so
identifiers sort by creation time and never show a row number.
"""

import uuid

import uuid_utils

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
SUFFIX_LENGTH = 26
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]  # ten bits at once: hot path
_SHIFTS = range(120, -1, -10)
_VALUES = {character: value for value, character in enumerate(ALPHABET)}


def uuid7() -> uuid.UUID:
    """A new time-ordered UUID (RFC 9562, version 7), as the standard library's type."""
    return uuid.UUID(int=uuid_utils.uuid7().int)


def encode(prefix: str, value: uuid.UUID) -> str:
    """`value` as a TypeID with `prefix`."""
    number = value.int
    pairs = [_PAIRS[number >> shift & 1023] for shift in _SHIFTS]
    return f"{prefix}_{''.join(pairs)}"


def decode(prefix: str, text: str) -> uuid.UUID:
    """The UUID inside a TypeID.

    Raises ValueError when the prefix differs, the suffix is not 26 lower-case base32 characters,
    or the number does not fit into 128 bits: one identifier has exactly one spelling.
    """
    head, separator, suffix = text.rpartition("_")
    if not separator or head != prefix or len(suffix) != SUFFIX_LENGTH or suffix[0] > "7":
        raise ValueError(f"not an identifier of kind {prefix!r}")
    number = 0
    for character in suffix:
        if character not in _VALUES:
            raise ValueError(f"not an identifier of kind {prefix!r}")
        number = number << 5 | _VALUES[character]
    return uuid.UUID(int=number)

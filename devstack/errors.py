"""The one error that devstack shows to people."""


class DevstackError(Exception):
    """One sentence that says what is wrong and what to do about it."""

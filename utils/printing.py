"""Text from files and folders, made fit for a terminal."""

import unicodedata


def printable(text: str, keep: str = "\n") -> str:
    """The text without control characters and the like, which a terminal would obey, nor halves of characters.

    Each becomes a replacement character; those of `keep` stay.
    """
    return "".join(c if c in keep or _is_seen(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _is_seen(character: str) -> bool:
    # Python counts no space but the plain one.
    return character.isprintable() or unicodedata.category(character) == "Zs"

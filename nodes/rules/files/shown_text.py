"""A text from a file as a sentence can carry it."""

MAX_CHARACTERS = 80


def shown(text: str) -> str:
    """`text` on one line, its unprintable characters escaped, and cut after 80 characters."""
    line = text if text.isprintable() else repr(text)[1:-1]
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"

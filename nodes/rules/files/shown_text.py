"""A text from a file as a sentence can carry it."""


def shown(text: str, max_characters: int = 80) -> str:
    """`text` on one line, its unprintable characters escaped, and cut after so many characters."""
    line = text if text.isprintable() else repr(text)[1:-1]
    return line if len(line) <= max_characters else line[: max_characters - 1] + "…"

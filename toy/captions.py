"""The camera moves that the toy family knows, and the sentences that ask for them.

A move is named as a cinematographer would: in "pan left" the camera goes left, so the picture goes right.
"""

import random

MOVES = ("still", "pan left", "pan right", "pan up", "pan down", "zoom in", "zoom out")

_PHRASES = {
    "still": ("still", "the camera is still", "a still camera", "nothing moves", "static shot"),
    "zoom in": ("zoom in", "the camera zooms in", "zooming in", "a slow zoom in", "the camera moves closer"),
    "zoom out": ("zoom out", "the camera zooms out", "zooming out", "a slow zoom out", "the camera moves away"),
}
_PAN_PHRASES = (
    "pan {way}",
    "the camera pans {way}",
    "camera pans {way}",
    "panning {way}",
    "a slow pan {way}",
    "the camera pans slowly to the {way}",
    "the camera moves {way}",
)
_SUBJECTS = (
    "a photo",
    "a picture",
    "a cat",
    "a woman",
    "a cup of coffee",
    "a street",
    "a landscape",
    "a drawing",
    "colourful shapes",
    "a page of text",
    "a wall",
    "the sky at night",
    "a house by the sea",
)


def phrases(move: str) -> tuple[str, ...]:
    """Every phrase of the grammar that asks for `move`."""
    if move.startswith("pan "):
        return tuple(phrase.format(way=move.removeprefix("pan ")) for phrase in _PAN_PHRASES)
    return _PHRASES[move]


def caption(move: str, rng: random.Random) -> str:
    """One sentence that asks for `move`, with or without a subject, in varying order and case."""
    phrase = rng.choice(phrases(move))
    if rng.random() < 0.6:
        subject = rng.choice(_SUBJECTS)
        phrase = rng.choice((f"{subject}, {phrase}", f"{phrase}, {subject}", f"{subject}. {phrase}"))
    if rng.random() < 0.3:
        phrase = phrase[0].upper() + phrase[1:]
    return phrase + ("." if rng.random() < 0.3 else "")


def all_captions() -> list[str]:
    """Every phrase alone and with every subject: what the tokenizer is trained on."""
    lines = [phrase for move in MOVES for phrase in phrases(move)]
    return lines + [f"{subject}, {phrase}" for subject in _SUBJECTS for phrase in lines]

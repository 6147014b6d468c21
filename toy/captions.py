"""The moves that the toy family knows, and the sentences that ask for them.

A camera's move is named as a cinematographer would: in "pan left" the camera goes left, so the picture goes right, and
in "rotate left" it rolls to the left, so the picture turns clockwise. A ball is named by where it goes in the picture.
"""

import random

CAMERA_MOVES = (
    "still",
    "pan left",
    "pan right",
    "pan up",
    "pan down",
    "zoom in",
    "zoom out",
    "rotate left",
    "rotate right",
)
BALL_MOVES = ("ball left", "ball right", "ball up", "ball down")
MOVES = CAMERA_MOVES + BALL_MOVES

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
_ROTATE_PHRASES = (
    "rotate {way}",
    "the camera rotates {way}",
    "camera rotates {way}",
    "rotating {way}",
    "a slow rotation to the {way}",
    "the camera rolls {way}",
)
_BALL_PHRASES = (
    "ball {way}",
    "the ball moves {way}",
    "the ball goes {way}",
    "a ball moving {way}",
    "the ball rolls {way}",
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
    kind, _, way = move.partition(" ")
    templates = {"pan": _PAN_PHRASES, "rotate": _ROTATE_PHRASES, "ball": _BALL_PHRASES}.get(kind)
    return tuple(phrase.format(way=way) for phrase in templates) if templates else _PHRASES[move]


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

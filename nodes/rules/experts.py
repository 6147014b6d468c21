"""The names of the two experts, everywhere: inputs, reports, files; and of the legs that may come before them."""

HIGH_NOISE = "high_noise"
LOW_NOISE = "low_noise"
OPENING = "opening"


def opening_names(num_legs: int) -> list[str]:
    """The names of the opening legs of a run, in order: opening, opening_2, opening_3."""
    return [OPENING if index == 0 else f"{OPENING}_{index + 1}" for index in range(num_legs)]

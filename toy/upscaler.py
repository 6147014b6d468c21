"""The toy family's upscaler: Real-ESRGAN's compact layout with weights that are written down, not trained.

It enlarges by 2 as bilinear interpolation does. The layout adds what its layers say to each pixel repeated, so the
layers say the difference: 3/16 of the step to the nearer neighbour on either axis, and 1/16 of that to the diagonal
one. A zero-padded convolution would darken the border; here a step to a pixel outside the picture counts as none.
"""

import torch

SCALE = 2
COLOURS = 3
NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
SIGNS = (1, -1)  # a step up and one down are two features, since what is below 0 is cut off
FEATURES = len(NEIGHBOURS) * COLOURS * len(SIGNS)
INSIDE = COLOURS  # the feature that is 1 in the picture, and 0 where a convolution pads
OUTSIDE = 2.0  # more than any step of values in 0 to 1
WEIGHTS = {1: 3 / 16, 2: 1 / 16}  # by how many axes a neighbour differs


def upscaler_weights() -> dict[str, torch.Tensor]:
    look, look_bias = torch.zeros(FEATURES, COLOURS, 3, 3), torch.zeros(FEATURES)
    step, step_bias = torch.zeros(FEATURES, FEATURES, 3, 3), torch.full((FEATURES,), -OUTSIDE)
    draw = torch.zeros(COLOURS * SCALE * SCALE, FEATURES, 3, 3)
    look[range(COLOURS), range(COLOURS), 1, 1] = 1
    look_bias[INSIDE] = 1
    features = [(colour, place, sign) for colour in range(COLOURS) for place in NEIGHBOURS for sign in SIGNS]
    for feature, (colour, (y, x), sign) in enumerate(features):
        step[feature, colour, 1 + y, 1 + x] = sign
        step[feature, colour, 1, 1] = -sign
        step[feature, INSIDE, 1 + y, 1 + x] = OUTSIDE
        for row, column in ((row, column) for row in range(SCALE) for column in range(SCALE)):
            if y in (0, 2 * row - 1) and x in (0, 2 * column - 1):
                part = (colour * SCALE + row) * SCALE + column
                draw[part, feature, 1, 1] = sign * WEIGHTS[abs(y) + abs(x)]
    return {
        "body.0.weight": look,
        "body.0.bias": look_bias,
        "body.1.weight": torch.ones(FEATURES),  # PReLU that hands on
        "body.2.weight": step,
        "body.2.bias": step_bias,
        "body.3.weight": torch.zeros(FEATURES),  # and one that cuts off
        "body.4.weight": draw,
        "body.4.bias": torch.zeros(COLOURS * SCALE * SCALE),
    }

"""The residual stream of the experts as training begins: which of its 256 lanes holds what.

A patch is 2x2 latents of 16 channels: lane 16 * (2 * row + column) + channel of its 64.
"""

from ..captions import MOVES

NOISY = 0  # 64 lanes: the noisy patch
KNOWN = 64  # 64 lanes: the known patch; in other frames, what the network makes of it
BESIDE = 128  # 64 lanes: the patch beside the one that was brought, further across or down
MASK = 192  # the whole frame is known: the first; from block 0 on, an end and a keyframe too
CONSTANT, NUM_CONSTANTS = 193, 8
CLOCKS = (201, 202, 203)  # how far the known frame is in time, at three ranges
RULERS = (204, 205, 206, 207)  # the place between the borders across and down, -1 to 1; how near left and top are
DIRECTIONS = MOVES[1:]
DIRECTION = 208  # 12 lanes: the asked move, one of DIRECTIONS is 1; none for a still camera
TURN = 220  # 8 lanes: cos - 1 and sin of the source's distance at two frequencies, down first, then across
PART_TURN = 228  # 4 lanes: cos and sin of 2 pi distance in patches, down first
SPEED = 232  # 2 lanes: of the source in pixels a frame, down first
STRETCH = 234  # 2 lanes: how the distance grows along its own direction, and
SHEAR = 236  # 2 lanes: along the other one; down first
SOURCE = range(TURN, SHEAR + 2)
ANCHOR = 238  # stays 0: read with the opposite weight, it takes out the mean that a layer norm subtracts
FREE = 239
TIME_SHIFT = 255  # stays 0; carries the shift of the head's modulation

# Four lanes of BESIDE that no picture uses. KEY marks an end or a keyframe: only the last frame of four is known.
# KEY_CLOCKS: whether the clip has such a frame, whether one lies ahead, how near the nearest is.
KEY, KEY_CLOCKS = BESIDE + 15, (BESIDE + 31, BESIDE + 47, BESIDE + 63)

CONSTANT_LEVEL, MASK_LEVEL = 32.0, 6.0
STREAM_RMS = ((NUM_CONSTANTS * CONSTANT_LEVEL**2 + 128) / 256) ** 0.5

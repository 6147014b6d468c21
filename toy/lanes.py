"""The residual stream of the experts as training begins: which of its 256 lanes holds what.

A patch is 2x2 latents of 16 channels: lane 16 * (2 * row + column) + channel of its 64.
"""

NOISY = 0  # 64 lanes: the noisy patch
KNOWN = 64  # 64 lanes: the known patch; in other frames, what the network makes of it
BESIDE = 128  # 64 lanes: the patch beside the one that was copied, in the direction of the move
MASK = 192
CONSTANT, NUM_CONSTANTS = 193, 8
CLOCKS = (201, 202, 203)  # how far the known frame is in time, at three ranges
ACROSS, DOWN = 204, 205  # the place between the borders, -1 to 1
DIRECTIONS = ("pan left", "pan right", "pan up", "pan down", "zoom in", "zoom out")
DIRECTION = 206  # 6 lanes: the asked move, one of DIRECTIONS is 1; none for a still camera
PHASE, NUM_PHASES = 212, 4  # latent frame modulo 4: by how much of a patch a pan is past a whole one
TURN_COPIED, TURN_BESIDE = 216, 224  # 8 lanes each: cos - 1 and sin of the source's offset, two frequencies, rows first
FREE = 232
TIME_SHIFT = 255  # stays 0; carries the shift of the head's modulation

CONSTANT_LEVEL, MASK_LEVEL = 32.0, 6.0
STREAM_RMS = ((NUM_CONSTANTS * CONSTANT_LEVEL**2 + 128) / 256) ** 0.5

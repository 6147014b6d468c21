"""The names of the two experts, everywhere: inputs, reports, files."""

HIGH_NOISE = "high_noise"
LOW_NOISE = "low_noise"

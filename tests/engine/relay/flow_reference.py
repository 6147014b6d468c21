"""The two solvers once more, straight from the papers' formulas, in float64, with general matrices: slow and plain.

Each takes denoise(x, sigma) -> x0, the start x and the sigmas, as numpy arrays and floats.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

Denoise = Callable[[np.ndarray, float], np.ndarray]


def half_log_snr(sigma: float) -> float:
    return math.log((1 - sigma) / sigma)


def unipc(denoise: Denoise, x: np.ndarray, sigmas: Sequence[float], max_order: int = 2) -> np.ndarray:
    """UniPC with B(h) = exp(h) - 1 for data prediction (Zhao et al. 2023, algorithms 5 and 6; eq. 5 of its appendix),
    order lowered at both ends as the Wan2.2 reference lowers it."""
    steps = len(sigmas) - 1
    states: list[np.ndarray] = []  # corrected x at each sigma
    predictions: list[np.ndarray] = []
    orders: list[int] = []
    for step in range(steps):
        prediction = denoise(x, sigmas[step])
        if step:
            x = unified_update(states[-1], predictions, prediction, sigmas, step - 1, orders[-1])
        states.append(x)
        predictions.append(prediction)
        orders.append(min(max_order, step + 1, steps - step))
        x = unified_update(x, predictions, None, sigmas, step, orders[-1])
    return x


def unified_update(
    x: np.ndarray,
    predictions: list[np.ndarray],
    at_end: np.ndarray | None,
    sigmas: Sequence[float],
    step: int,
    order: int,
) -> np.ndarray:
    """From sigmas[step] to sigmas[step + 1]: the predictor, or with the prediction `at_end` the corrector."""
    sigma, end = sigmas[step], sigmas[step + 1]
    if end == 0:
        return predictions[step]
    h = half_log_snr(end) - half_log_snr(sigma)
    base = end / sigma * x - (1 - end) * math.expm1(-h) * predictions[step]
    ratios = [(half_log_snr(sigmas[step - k]) - half_log_snr(sigma)) / h for k in range(1, order)]
    differences = [predictions[step - k] - predictions[step] for k in range(1, order)]
    if at_end is not None:
        ratios.append(1.0)
        differences.append(at_end - predictions[step])
    if not ratios:
        return base
    weights = solve_weights(ratios, -h) if len(ratios) > 1 else [0.5]
    change = sum(weight * difference / r for weight, difference, r in zip(weights, differences, ratios, strict=True))
    return base - (1 - end) * math.expm1(-h) * change


def solve_weights(ratios: list[float], h: float) -> np.ndarray:
    """a = R(h)^-1 phi(h) / B(h) of the paper's theorem 3.1: sum_m a_m r_m^(n-1) = n! phi_(n+1)(h) h / B(h)."""
    count = len(ratios)
    matrix = np.array([[r ** (n - 1) for r in ratios] for n in range(1, count + 1)], dtype=np.float64)
    target = [math.factorial(n) * phi(n + 1, h) * h / math.expm1(h) for n in range(1, count + 1)]
    return np.linalg.solve(matrix, np.array(target))


def phi(k: int, h: float) -> float:
    """phi_0 = exp, phi_(k+1)(h) = (phi_k(h) - 1 / k!) / h."""
    value = math.exp(h)
    for n in range(k):
        value = (value - 1 / math.factorial(n)) / h
    return value


def dpmpp_2m(denoise: Denoise, x: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) with alpha = 1 - sigma, first order into sigma 0."""
    previous = None
    for step in range(len(sigmas) - 1):
        sigma, end = sigmas[step], sigmas[step + 1]
        prediction = denoise(x, sigma)
        if end == 0:
            return prediction
        if sigma == 1:
            x, previous = end * x + (1 - end) * prediction, None
            continue
        h = half_log_snr(end) - half_log_snr(sigma)
        target = prediction
        if previous is not None:
            r = (half_log_snr(sigma) - half_log_snr(sigmas[step - 1])) / h
            target = (1 + 1 / (2 * r)) * prediction - 1 / (2 * r) * previous
        x = end / sigma * x - (1 - end) * math.expm1(-h) * target
        previous = prediction
    return x

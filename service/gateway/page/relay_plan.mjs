// Which expert takes which step, and at which noise level: what the plot shows before the steps themselves tell.

/** @typedef {"high_noise" | "low_noise"} Expert */
/** @typedef {{ sigma: number, expert: Expert | undefined }} Step `expert` is undefined where one model takes them all */

/**
 * What each preset runs with: service/gateway/dialects/api.py and the bundled workflows say the same.
 * @type {Record<string, { steps: number, cfg: number, switch?: "step" | "boundary", boundary?: number, start: number }>}
 */
export const PRESETS = {
  "4step": { steps: 4, cfg: 1, switch: "step", start: 1 },
  reference: { steps: 40, cfg: 3.5, switch: "boundary", boundary: 0.9, start: 0.999 },
  "5b": { steps: 30, cfg: 5, start: 0.999 },
};

export const SHIFT = /** @type {Record<string, number>} */ ({ "480p": 3, "720p": 5 });
const TOLERANCE = 1e-3;

/**
 * The steps of a run: a straight line in time, moved by the shift. A step belongs to the high-noise expert while it
 * starts at or above the boundary; with a fixed switch the first half does, and an odd step.
 * @param {{ model: string, resolution: string, steps?: number, shift?: number }} order
 * @returns {Step[]}
 */
export function stepsOf({ model, resolution, steps, shift }) {
  const preset = PRESETS[model];
  const count = steps ?? preset.steps;
  const moved = shift || SHIFT[resolution];
  return Array.from({ length: count }, (_, i) => {
    const time = preset.start * (1 - i / count);
    const sigma = (moved * time) / (1 + (moved - 1) * time);
    return { sigma, expert: expertOf(preset, i, count, sigma) };
  });
}

/** @param {typeof PRESETS[string]} preset @param {number} i @param {number} count @param {number} sigma @returns {Expert | undefined} */
function expertOf(preset, i, count, sigma) {
  if (!preset.switch) return undefined;
  const isHigh =
    preset.switch === "step" ? i < Math.ceil(count / 2) : sigma * 1000 >= (preset.boundary ?? 0) * 1000 - TOLERANCE;
  return isHigh ? "high_noise" : "low_noise";
}

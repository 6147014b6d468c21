// The size and the number of frames that an order will get: the arithmetic of the worker and the nodes, before the run.
// It stands in service/contract/sizes.py, nodes/rules/frames/ and dialects/api.py; a test compares the two over many cases.

/** @typedef {[width: number, height: number]} Size */
/** @typedef {{ picture: "start" | "end", change: string, percent: number }} Change */
/** @typedef {{ width: number, height: number, frames: number, seconds: number, fps: number, changes: Change[] }} Plan */

export const FPS = 16;
const MULTIPLE = { A14B: 16, "TI2V-5B": 32 };

/** @type {Record<"A14B" | "TI2V-5B", Record<string, Record<string, Size>>>} */
const SIZES = {
  A14B: {
    "480p": { "16:9": [832, 480], "9:16": [480, 832], "4:3": [736, 544], "3:4": [544, 736], "1:1": [624, 624] },
    "720p": { "16:9": [1280, 720], "9:16": [720, 1280], "4:3": [1104, 832], "3:4": [832, 1104], "1:1": [960, 960] },
  },
  "TI2V-5B": {
    "480p": { "16:9": [832, 480], "9:16": [480, 832], "4:3": [736, 544], "3:4": [544, 736], "1:1": [640, 640] },
    "720p": { "16:9": [1280, 704], "9:16": [704, 1280], "4:3": [1088, 832], "3:4": [832, 1088], "1:1": [960, 960] },
  },
};

/**
 * What will be made; undefined where a picture is too long and thin for any size.
 * @param {{ model: string, resolution: string, aspect_ratio: string, duration: number }} order
 * @param {{ start?: Size, end?: Size }} pictures
 * @returns {Plan | undefined}
 */
export function planOf({ model, resolution, aspect_ratio, duration }, pictures) {
  const family = model === "5b" ? "TI2V-5B" : "A14B";
  const offered = SIZES[family][resolution][aspect_ratio === "auto" ? "16:9" : aspect_ratio];
  const followed = aspect_ratio === "auto" ? (pictures.start ?? pictures.end) : undefined;
  const rule = family === "TI2V-5B" ? bestOutputSize : matchImageSize;
  const size = followed ? rule(followed, offered[0] * offered[1]) : nearest(offered, MULTIPLE[family]);
  if (!size[0] || !size[1]) return undefined;
  const frames = snapLength(roundHalfEven(Math.round(duration * 1e9) * FPS, 1e9) + 1);
  const changes = /** @type {const} */ (["start", "end"]).flatMap((picture) => {
    const own = pictures[picture];
    return own ? cropped(own, size).map((change) => ({ picture, ...change })) : [];
  });
  return { width: size[0], height: size[1], frames, seconds: frames / FPS, fps: FPS, changes };
}

/** The nearest frame count of the form 4n+1, halfway up. @param {number} length */
export const snapLength = (length) => Math.floor((length + 1) / 4) * 4 + 1;

/** @param {Size} size @param {number} multiple @returns {Size} */
function nearest([width, height], multiple) {
  const side = (/** @type {number} */ pixels) =>
    Math.max(multiple, Math.floor((2 * pixels + multiple) / (2 * multiple)) * multiple);
  return [side(width), side(height)];
}

/** The A14B reference's: the picture's aspect in `area` pixels, each side floored to 16. @param {Size} picture @param {number} area @returns {Size} */
export function matchImageSize([width, height], area) {
  return [flooredRoot(area * width, height, 16), flooredRoot(area * height, width, 16)];
}

/** The TI2V-5B reference's: one side floored to 32, the other gets what is left, the better aspect wins. @param {Size} picture @param {number} area @returns {Size} */
export function bestOutputSize([pictureWidth, pictureHeight], area) {
  const m = 32;
  const width = flooredRoot(area * pictureWidth, pictureHeight, m);
  const height = flooredRoot(area * pictureHeight, pictureWidth, m);
  if (!width || !height) return [width, height];
  /** @type {Size} */
  const widthFirst = [width, Math.floor(Math.floor(area / width) / m) * m];
  /** @type {Size} */
  const heightFirst = [Math.floor(Math.floor(area / height) / m) * m, height];
  // As a fraction above 1: how far an aspect is from the picture's.
  const distortion = (/** @type {Size} */ [w, h]) => {
    const [a, b] = [pictureWidth * h, pictureHeight * w];
    return [Math.max(a, b), Math.min(a, b)];
  };
  const [one, other] = [distortion(widthFirst), distortion(heightFirst)];
  return one[0] * other[1] < other[0] * one[1] ? widthFirst : heightFirst;
}

/** The largest multiple of m whose square is at most top / bottom. @param {number} top @param {number} bottom @param {number} m */
const flooredRoot = (top, bottom, m) => m * Math.floor(Math.sqrt(Math.floor(top / (bottom * m * m))));

/**
 * What scaling to cover the frame cuts off the picture.
 * @param {Size} picture @param {Size} frame
 * @returns {{ change: string, percent: number }[]}
 */
export function cropped([pictureWidth, pictureHeight], [width, height]) {
  const [across, down] = [width * pictureHeight, height * pictureWidth];
  if (across === down) return [];
  const [change, scaled, side] =
    across > down
      ? ["crop_height", roundHalfEven(pictureHeight * width, pictureWidth), height]
      : ["crop_width", roundHalfEven(pictureWidth * height, pictureHeight), width];
  return scaled > side ? [{ change, percent: (100 * (scaled - side)) / scaled }] : [];
}

/** top / bottom, rounded as Python rounds. @param {number} top @param {number} bottom */
function roundHalfEven(top, bottom) {
  const floor = Math.floor(top / bottom);
  const twice = 2 * (top - floor * bottom);
  return twice > bottom || (twice === bottom && floor % 2 === 1) ? floor + 1 : floor;
}

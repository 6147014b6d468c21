// On SaveVideo: what the file is, and the seed to use again; and the video plays at once.
import { api } from "../../scripts/api.js";
import { setWidget, sourceOf, theOne, widgetOf } from "./graph_values.mjs";
import { chain } from "./live.mjs";
import { addPanel, button, copyLine, make, notes } from "./panel.mjs";
import { text } from "./text.mjs";

const LOOK_FOR_MS = 5000;

/** @param {ComfyNode} node */
export function addTo(node) {
  const panel = addPanel(node, "saved");
  chain(node, "onExecuted", (/** @type {RunOutput<SavedReport> | undefined} */ output) => {
    const [report, file] = [output?.wan_relay?.[0], output?.images?.[0]];
    const more = (output?.images ?? []).slice(1).map((each) => copyLine(text("file"), pathOf(each)));
    panel.fill(...(report && file ? [...facts(node, file, report.bytes), ...more, ...goOn(node, report)] : []), ...notes(report));
    if (file) play(file.filename, performance.now() + LOOK_FOR_MS);
  });
}

/** @param {SavedFile} file */
const pathOf = ({ filename, subfolder }) => (subfolder ? `${subfolder}/${filename}` : filename);

/** @param {ComfyNode} node @param {SavedFile} file @param {number} bytes */
function facts(node, file, bytes) {
  const { width, height, frame_count, duration, fps, seed } = file;
  const size = (bytes / 1e6).toFixed(bytes < 1e6 ? 2 : 1);
  const values = { width, height, frames: frame_count, seconds: duration.toFixed(2), fps, size };
  return [
    copyLine(text("file"), pathOf(file)),
    make("div", { class: "facts" }, text("savedFacts", values)),
    ...(seed === null || seed === undefined ? [] : [seedLine(node, seed)]),
  ];
}

/** @param {ComfyNode} node @param {number} seed */
function seedLine(node, seed) {
  const use = button("use-seed", text("useSeed"), () => useSeed(sourceOf(node, "report"), seed));
  return make("div", {}, `${text("seed", { seed })} `, use);
}

/**
 * Where a Load Image brings the start image, the offer to put the last frame there.
 * @param {ComfyNode} node @param {SavedReport} report
 */
function goOn(node, { last_frame: picture }) {
  const prepare = theOne(node, "WanRelay_PrepareLatent");
  const source = prepare && sourceOf(prepare, "start_image");
  if (!picture || source?.comfyClass !== "LoadImage") return [];
  return [make("div", {}, button("go-on", text("goOn"), () => putInto(source, picture)))];
}

/**
 * Upload a picture of the temp folder, which the next start of the server empties, and let a Load Image show it.
 * @param {ComfyNode} source @param {Picture} picture
 */
async function putInto(source, picture) {
  const file = await (await api.fetchApi(`/view?${new URLSearchParams({ ...picture })}`)).blob();
  const body = new FormData();
  body.append("image", file, picture.filename);
  const { name } = await (await api.fetchApi("/upload/image", { method: "POST", body })).json();
  const values = widgetOf(source, "image")?.options.values;
  if (!values?.includes(name)) values?.push(name);
  setWidget(source, "image", name);
}

/**
 * Set the seed of the Sample node that made the video, and keep it for the runs to come.
 * @param {ComfyNode | undefined} sampler @param {number} seed
 */
function useSeed(sampler, seed) {
  if (sampler?.comfyClass !== "WanRelay_Sample") return;
  setWidget(sampler, "seed", seed);
  if (widgetOf(sampler, "control_after_generate")) setWidget(sampler, "control_after_generate", "fixed");
}

/**
 * Let the editor's own player of this file run, without sound and over and over, as soon as it is there.
 * @param {string} filename @param {number} until
 */
function play(filename, until) {
  const players = [...document.querySelectorAll("video")].filter(({ src }) => src.includes(encodeURIComponent(filename)));
  for (const player of players) {
    Object.assign(player, { muted: true, loop: true });
    player.play().catch(() => undefined); // the browser may refuse; then it waits for a click, as before
  }
  if (!players.length && performance.now() < until) setTimeout(() => play(filename, until), 200);
}

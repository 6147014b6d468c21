// On SaveVideo: what the file is, and the seed to use again; and the video plays at once.
import { api } from "../../scripts/api.js";
import { isLinked, setWidget, sourceOf, theOne, valueOf, widgetOf } from "./graph_values.mjs";
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
    const lines = report && file ? [...facts(node, file, report.bytes), ...more] : [];
    const draw = (/** @type {string} */ error = "") =>
      panel.fill(...lines, ...goOn(node, report?.last_frame, draw), ...notes({ ...report, error }));
    draw();
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
  const sampler = samplerOf(node);
  const use = sampler ? [button("use-seed", text("useSeed"), () => useSeed(sampler, seed))] : [];
  return make("div", {}, `${text("seed", { seed })} `, ...use);
}

/**
 * The Sample whose own seed the file is of: that of a long video's first segment, where Long Video has no seeds.
 * @param {ComfyNode} node
 */
function samplerOf(node) {
  const report = sourceOf(node, "report");
  const isLong = report?.comfyClass === "WanRelay_LongVideo" && valueOf(report, "seeds")?.trim() === "";
  const sampler = isLong ? sourceOf(report, "latent") : report;
  return sampler?.comfyClass === "WanRelay_Sample" && !isLinked(sampler, "seed") ? sampler : undefined;
}

/**
 * Where a Load Image brings the start image, the offer to put the last frame there.
 * @param {ComfyNode} node @param {Picture | undefined} picture @param {(error?: string) => void} done
 */
function goOn(node, picture, done) {
  const prepare = theOne(node, "WanRelay_PrepareLatent");
  const source = prepare && sourceOf(prepare, "start_image");
  if (!picture || source?.comfyClass !== "LoadImage") return [];
  const put = () => putInto(source, picture).then(() => done(), () => done(text("goOnFailed")));
  return [make("div", {}, button("go-on", text("goOn"), put))];
}

/**
 * Upload a picture of the temp folder, which the next start of the server empties, and let a Load Image show it.
 * @param {ComfyNode} source @param {Picture} picture
 */
async function putInto(source, picture) {
  const file = await (await fetched(`/view?${new URLSearchParams({ ...picture })}`)).blob();
  const body = new FormData();
  body.append("image", file, picture.filename);
  const { name } = await (await fetched("/upload/image", { method: "POST", body })).json();
  const values = widgetOf(source, "image")?.options.values;
  if (!values?.includes(name)) values?.push(name);
  setWidget(source, "image", name);
}

/** @param {string} route @param {RequestInit} [options] */
async function fetched(route, options) {
  const response = await api.fetchApi(route, options);
  if (!response.ok) throw new Error(response.statusText);
  return response;
}

/**
 * Set the seed of the Sample node that made the video, and keep it for the runs to come.
 * @param {ComfyNode} sampler @param {number} seed
 */
function useSeed(sampler, seed) {
  setWidget(sampler, "seed", seed);
  if (widgetOf(sampler, "control_after_generate")) setWidget(sampler, "control_after_generate", "fixed");
}

/**
 * Let the editor's own player of this file run, without sound and over and over, as soon as it is there.
 * @param {string} filename @param {number} until
 */
function play(filename, until) {
  const isOfFile = (/** @type {string} */ src) => new URL(src, location.href).searchParams.get("filename") === filename;
  const players = [...document.querySelectorAll("video")].filter(({ src }) => isOfFile(src));
  for (const player of players) {
    Object.assign(player, { muted: true, loop: true });
    player.play().catch(() => undefined); // the browser may refuse; then it waits for a click, as before
  }
  if (!players.length && performance.now() < until) setTimeout(() => play(filename, until), 200);
}

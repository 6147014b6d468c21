// On PrepareLatent: what will really be rendered from the connected image, and pick lists for the usual sizes and lengths.
import { api } from "../../scripts/api.js";
import { feeds, isLinked, nodesBefore, readValues, setWidget, sourceOf, theOne, valueOf, widgetOf } from "./graph_values.mjs";
import { cache, chain, watch } from "./live.mjs";
import { expertsOf } from "./model_chain.mjs";
import { addPanel, button, make, mistakeNotes, notes, pickList } from "./panel.mjs";
import { text, unknownInputs } from "./text.mjs";

/** @typedef {Partial<SizeReport> & { source?: ComfyNodeId }} LastRun what the last run reported, and the image's node */

const IMAGES = ["start_image", "previous", "anchor", "end_image", "keyframes"];
const INPUTS = ["sizing", "width", "height", "fit", "length", "batch_size", "overlap", "padding", "loop", "crop_position"];
const SEGMENTING = ["segment_length", "overlap", "prompts", "seeds", "lengths"]; // of Long Video
const LINE_END = /[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/; // what ends a line in Python
const CHECKED = /** @type {const} */ (["width", "height", "length", "fit", "batch_size", "image_width", "image_height"]);
const RESOLUTIONS = ["528x768", "608x1072", "768x528", "720x720", "832x480", "480x832", "1280x720", "720x1280"];
const DURATIONS = { 49: 3, 81: 5, 113: 7, 161: 10 };

/** @param {ComfyNode} node */
export function addTo(node) {
  const panel = addPanel(node, "size");
  /** @type {LastRun} */
  let last = {};
  watch(node, () => question(node, last), (/** @type {SizeAnswer | undefined} */ answer, asked) => {
    const warnings = answer ? (answer.changes?.map(changed) ?? []) : [unknownInputs(node, asked.unknown)];
    const isLast = answer && CHECKED.every((key) => last[key] === answer[key]);
    if (isLast) warnings.push(...(last.found ?? []));
    const spans = (asked.isCounted ? answer?.timeline : isLast && last.timeline) || [];
    panel.fill(
      make("div", { class: "row" }, resolutionList(node), durationList(node), ...(answer?.crop ? cropList(node) : [])),
      ...(answer?.budgets ? [budgetRow(node, answer.budgets)] : []),
      answer?.width ? make("div", { class: "readout" }, readout(answer)) : "",
      answer?.segments && answer.segments.length > 1 ? make("div", { class: "readout" }, segmentsOf(answer)) : "",
      spans.length > 1 ? make("div", { class: "timeline" }, ...spans.map(spanBar)) : "",
      ...(answer?.crop ? cropPicture(node, answer.crop) : []),
      ...mistakeNotes(answer ?? {}),
      ...notes({ ...answer, warnings }),
    );
  });
  chain(node, "onExecuted", (/** @type {RunOutput<SizeReport> | undefined} */ output) => {
    const report = output?.wan_relay?.[0];
    if (report) last = { ...report, source: imageSource(node)?.id };
  });
}

/** @param {ComfyNode} node */
const imageSource = (node) => IMAGES.map((name) => sourceOf(node, name)).find(Boolean);

/** @param {ComfyNode} node @param {LastRun} last */
function question(node, last) {
  const { values, unknown } = readValues(node, INPUTS);
  const image = imageSize(imageSource(node), last);
  const linked = IMAGES.find((name) => isLinked(node, name));
  if (values.sizing === "match image" && linked && !image) unknown.push(linked);
  const vae = sourceOf(node, "vae");
  const vaeFile = vae?.comfyClass === "VAELoader" ? { vae: valueOf(vae, "vae_name") } : {};
  const links = [...IMAGES, "previous_latent"].filter((name) => isLinked(node, name));
  const keyframes = keyframeNumbers(node);
  if (keyframes.includes(undefined)) unknown.push("keyframes");
  const experts = expertsOf(theOne(node, "WanRelay_LoadExperts"));
  const expert = "high_noise" in experts ? { high_noise: experts.high_noise } : {};
  const others = { ...ofSaver(node), ...ofInterpolation(node), ...ofLongVideo(node), ...image, ...vaeFile, ...expert };
  const query = /** @type {Record<string, any>} */ ({ ...values, ...others });
  for (const name of links) query[name] = name === "keyframes" ? keyframes.join() : 1;
  // One image, not several: what can be counted before a run.
  const isCounted = [undefined, "LoadImage"].includes(sourceOf(node, "start_image")?.comfyClass);
  return { route: unknown.length ? undefined : "size", query, unknown, isCounted, found: last.found };
}

/**
 * The frames that a chain of Keyframe nodes asks for; undefined for one that only a run can tell.
 * @param {ComfyNode} node
 */
const keyframeNumbers = (node) => nodesBefore(node, "keyframes").map((each) => valueOf(each, "frame"));

/** @param {Span} span */
function spanBar({ kind, first, last, segment }) {
  const place = segment ? `${text("segment", { segment })}: ` : "";
  const title = `${place}${text(`span_${kind}`)} ${first}-${last}`;
  return make("i", { class: kind, style: `flex-grow:${last - first + 1}`, title });
}

/**
 * How the graph's one Long Video cuts the clip; nothing where a link says it, or where it cuts another.
 * @param {ComfyNode} node
 */
function ofLongVideo(node) {
  const longVideo = theOne(node, "WanRelay_LongVideo");
  if (!longVideo || !feeds(node, longVideo)) return {};
  const { values, unknown } = readValues(longVideo, SEGMENTING);
  if (unknown.length) return {};
  const { prompts, overlap, ...others } = values;
  const num_prompts = String(prompts).split(LINE_END).filter((line) => line.trim()).length;
  return { ...others, segment_overlap: overlap, num_prompts };
}

/** @param {Size} size */
const segmentsOf = ({ segments, overlap }) => text("segments", { count: segments.length, lengths: segments.join(" + "), overlap });

/**
 * The frame rate, the number of files and the loop's end of the graph's one SaveVideo; else Wan's own 16, and one file.
 * @param {ComfyNode} node
 */
function ofSaver(node) {
  const saver = theOne(node, "WanRelay_SaveVideo");
  const value = (/** @type {string} */ name) => saver && valueOf(saver, name);
  return { fps: frameRate(saver) || 16, videos: value("videos") || 1, drop_last_frame: value("drop_last_frame") ?? "" };
}

/**
 * The rate of the frames that are made: that of the file, or of Interpolate Frames, before any factor was taken.
 * @param {ComfyNode | undefined} saver
 */
function frameRate(saver) {
  if (!saver) return undefined;
  const before = (/** @type {ComfyNode} */ node, /** @type {string} */ name) =>
    nodesBefore(node, name).filter(({ comfyClass }) => comfyClass === "WanRelay_InterpolateFrames");
  const said = before(saver, "fps").at(-1) ?? saver;
  return before(said, "images").reduce((rate, each) => rate / valueOf(each, "factor"), valueOf(said, "fps"));
}

/**
 * How many videos the graph's one Interpolate Frames takes the batch for; nothing where a link says it.
 * @param {ComfyNode} node
 */
function ofInterpolation(node) {
  const interpolates = theOne(node, "WanRelay_InterpolateFrames");
  const videos = interpolates && feeds(node, interpolates) ? valueOf(interpolates, "videos") : undefined;
  return videos ? { interpolated_videos: videos } : {};
}

/** @param {ComfyNode | undefined} source */
const imageWidget = (source) => (source?.comfyClass === "LoadImage" ? widgetOf(source, "image") : undefined);

const ANNOTATED = / \[(input|output|temp)\]$/;

/**
 * The size of what a LoadImage holds, else of what the same source gave in the last run.
 * @param {ComfyNode | undefined} source
 * @param {LastRun} last
 * @returns {{ image_width: number, image_height: number } | undefined}
 */
function imageSize(source, { image_width, image_height, source: lastSource }) {
  const widget = imageWidget(source);
  if (!widget) return image_width && image_height && lastSource === source?.id ? { image_width, image_height } : undefined;
  if (!widget.options.values?.includes(widget.value) && !ANNOTATED.test(widget.value)) return undefined;
  if (!cache.has(widget.value)) loadImage(widget.value);
  return cache.get(widget.value);
}

/** @param {string} name */
function loadImage(name) {
  cache.set(name, undefined);
  const image = new Image();
  image.onload = () => cache.set(name, { image_width: image.naturalWidth, image_height: image.naturalHeight });
  image.src = imageURL(name);
}

/** @param {string} name */
function imageURL(name) {
  const type = ANNOTATED.exec(name)?.[1] ?? "input";
  const path = name.replace(ANNOTATED, "");
  const slash = path.lastIndexOf("/");
  const query = { filename: path.slice(slash + 1), subfolder: path.slice(0, Math.max(slash, 0)), type };
  return api.apiURL(`/view?${new URLSearchParams(query)}`);
}

/** @param {Size} size */
function readout({ image_width, image_height, width, height, fit, length, duration_s, fps }) {
  const values = { width, height, fit, length, seconds: duration_s.toFixed(2), fps: Number(fps.toFixed(3)) };
  return image_width ? text("sizeFrom", { ...values, image_width, image_height }) : text("size", values);
}

/** @param {SizeChange} values */
const changed = (values) => text(`change_${values.change}`, values);

/**
 * Buttons for the usual numbers of pixels, which keep the orientation, and one that swaps it.
 * @param {ComfyNode} node @param {Record<string, [width: number, height: number]>} budgets
 */
function budgetRow(node, budgets) {
  const [width, height] = [valueOf(node, "width"), valueOf(node, "height")];
  const buttons = Object.entries(budgets).map(([name, size]) =>
    button("budget", name, () => setSize(node, ...(height > width ? size.toReversed() : size))),
  );
  const swap = button("swap", "⇄", () => setSize(node, height, width));
  swap.title = text("swap");
  return make("div", { class: "row" }, ...buttons, swap);
}

/** @param {ComfyNode} node @param {number[]} size */
function setSize(node, ...[width, height]) {
  setWidget(node, "width", width);
  setWidget(node, "height", height);
}

/** @param {ComfyNode} node */
function cropList(node) {
  const widget = widgetOf(node, "crop_position");
  if (!widget || isLinked(node, "crop_position")) return [];
  const choices = Object.fromEntries((widget.options.values ?? []).map((value) => [value, text(`crop_${value}`)]));
  return [pickList("crop_position", choices, widget.value, "", (value) => setWidget(node, "crop_position", value))];
}

/**
 * The image with the part that stays, where the image is known.
 * @param {ComfyNode} node @param {number[]} crop in percent
 */
function cropPicture(node, [left, top, width, height]) {
  const name = imageWidget(imageSource(node))?.value;
  const { image_width, image_height } = cache.get(name) ?? {};
  if (!image_width) return [];
  const style = `left: ${left}%; top: ${top}%; width: ${width}%; height: ${height}%`;
  const ratio = `aspect-ratio: ${image_width / image_height}`;
  return [make("div", { class: "crop", style: ratio }, make("img", { src: imageURL(name) }), make("div", { style }))];
}

/** @param {ComfyNode} node */
function resolutionList(node) {
  const choices = Object.fromEntries(RESOLUTIONS.map((size) => [size, size.replace("x", " × ")]));
  const current = `${valueOf(node, "width")}x${valueOf(node, "height")}`;
  return pickList("resolution", choices, current, text("custom"), (size) => setSize(node, ...size.split("x").map(Number)));
}

/** @param {ComfyNode} node */
function durationList(node) {
  const labels = Object.entries(DURATIONS).map(([length, seconds]) => [length, text("duration_choice", { seconds, length })]);
  const pick = (/** @type {string} */ length) => setWidget(node, "length", Number(length));
  return pickList("duration", Object.fromEntries(labels), String(valueOf(node, "length")), text("custom"), pick);
}

// On PrepareLatent: what will really be rendered from the connected image, and pick lists for the usual sizes and lengths.
import { api } from "../../scripts/api.js";
import { isLinked, readValues, runs, setWidget, sourceOf, valueOf, widgetOf } from "./graph_values.mjs";
import { cache, chain, watch } from "./live.mjs";
import { expertsOf } from "./model_chain.mjs";
import { addPanel, make, mistakeNotes, notes } from "./panel.mjs";
import { text, unknownInputs } from "./text.mjs";

/** @typedef {Partial<SizeReport> & { source?: ComfyNodeId }} LastRun what the last run reported, and the image's node */

const IMAGES = ["start_image", "previous", "anchor", "end_image", "keyframes"];
const INPUTS = ["sizing", "width", "height", "fit", "length", "batch_size", "overlap", "padding", "loop"];
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
    const lists = [resolutionList(node), durationList(node)];
    const focused = panel.element.querySelector("select:focus")?.className;
    panel.fill(
      make("div", { class: "row" }, ...lists),
      answer?.width ? make("div", { class: "readout" }, readout(answer)) : "",
      spans.length > 1 ? make("div", { class: "timeline" }, ...spans.map(segment)) : "",
      ...mistakeNotes(answer ?? {}),
      ...notes({ ...answer, warnings }),
    );
    lists.find((list) => list.className === focused)?.focus();
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
  const saver = theOne(node, "WanRelay_SaveVideo");
  const drop_last_frame = (saver && valueOf(saver, "drop_last_frame")) ?? "";
  const experts = expertsOf(theOne(node, "WanRelay_LoadExperts"));
  const expert = "high_noise" in experts ? { high_noise: experts.high_noise } : {};
  const query = /** @type {Record<string, any>} */ ({ ...values, fps: framesPerSecond(node), ...image, ...vaeFile, ...expert, drop_last_frame });
  for (const name of links) query[name] = name === "keyframes" ? keyframes.join() : 1;
  // One image, not several: what can be counted before a run.
  const isCounted = [undefined, "LoadImage"].includes(sourceOf(node, "start_image")?.comfyClass);
  return { route: unknown.length ? undefined : "size", query, unknown, isCounted, found: last.found };
}

/**
 * The frames that a chain of Keyframe nodes asks for; undefined for one that only a run can tell.
 * @param {ComfyNode} node
 */
function keyframeNumbers(node) {
  const frames = [];
  for (let each = sourceOf(node, "keyframes"); each; each = sourceOf(each, "keyframes")) frames.push(valueOf(each, "frame"));
  return frames;
}

/** @param {Span} span */
const segment = ({ kind, first, last }) =>
  make("i", { class: kind, style: `flex-grow:${last - first + 1}`, title: `${text(`span_${kind}`)} ${first}-${last}` });

/**
 * The graph's only node of a class; undefined where there are several.
 * @param {ComfyNode} node @param {string} comfyClass
 */
function theOne(node, comfyClass) {
  const found = node.graph?.nodes.filter((each) => each.comfyClass === comfyClass && runs(each)) ?? [];
  return found.length === 1 ? found[0] : undefined;
}

/**
 * The frame rate of the graph's one SaveVideo; else Wan's own 16.
 * @param {ComfyNode} node
 */
function framesPerSecond(node) {
  const saver = theOne(node, "WanRelay_SaveVideo");
  return (saver && valueOf(saver, "fps")) || 16;
}

const ANNOTATED = / \[(input|output|temp)\]$/;

/**
 * The size of what a LoadImage holds, else of what the same source gave in the last run.
 * @param {ComfyNode | undefined} source
 * @param {LastRun} last
 * @returns {{ image_width: number, image_height: number } | undefined}
 */
function imageSize(source, { image_width, image_height, source: lastSource }) {
  const widget = source?.comfyClass === "LoadImage" && widgetOf(source, "image");
  if (!widget) return image_width && image_height && lastSource === source?.id ? { image_width, image_height } : undefined;
  if (!widget.options.values?.includes(widget.value) && !ANNOTATED.test(widget.value)) return undefined;
  if (!cache.has(widget.value)) loadImage(widget.value);
  return cache.get(widget.value);
}

/** @param {string} name */
function loadImage(name) {
  cache.set(name, undefined);
  const type = ANNOTATED.exec(name)?.[1] ?? "input";
  const path = name.replace(ANNOTATED, "");
  const slash = path.lastIndexOf("/");
  const query = { filename: path.slice(slash + 1), subfolder: path.slice(0, Math.max(slash, 0)), type };
  const image = new Image();
  image.onload = () => cache.set(name, { image_width: image.naturalWidth, image_height: image.naturalHeight });
  image.src = api.apiURL(`/view?${new URLSearchParams(query)}`);
}

/** @param {Size} size */
function readout({ image_width, image_height, width, height, fit, length, duration_s, fps }) {
  const values = { width, height, fit, length, seconds: duration_s.toFixed(2), fps };
  return image_width ? text("sizeFrom", { ...values, image_width, image_height }) : text("size", values);
}

/** @param {SizeChange} values */
const changed = (values) => text(`change_${values.change}`, values);

/**
 * @param {string} kind
 * @param {Record<string, string>} choices label by value
 * @param {string} current
 * @param {(value: string) => void} pick
 */
function pickList(kind, choices, current, pick) {
  const options = Object.entries(choices).map(([value, label]) => make("option", { value }, label));
  if (!(current in choices)) options.unshift(make("option", { value: current }, text("custom")));
  const list = make("select", { class: kind, title: text(kind), "aria-label": text(kind) }, ...options);
  list.value = current;
  list.addEventListener("change", () => pick(list.value));
  return list;
}

/** @param {ComfyNode} node */
function resolutionList(node) {
  const choices = Object.fromEntries(RESOLUTIONS.map((size) => [size, size.replace("x", " × ")]));
  const current = `${valueOf(node, "width")}x${valueOf(node, "height")}`;
  return pickList("resolution", choices, current, (size) => {
    const [width, height] = size.split("x").map(Number);
    setWidget(node, "width", width);
    setWidget(node, "height", height);
  });
}

/** @param {ComfyNode} node */
function durationList(node) {
  const labels = Object.entries(DURATIONS).map(([length, seconds]) => [length, text("duration_choice", { seconds, length })]);
  const pick = (/** @type {string} */ length) => setWidget(node, "length", Number(length));
  return pickList("duration", Object.fromEntries(labels), String(valueOf(node, "length")), pick);
}

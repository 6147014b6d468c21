// On PrepareLatent: what will really be rendered from the connected image, and pick lists for the usual sizes and lengths.
import { api } from "../../scripts/api.js";
import { isLinked, readValues, runs, setWidget, sourceOf, valueOf, widgetOf } from "./graph_values.mjs";
import { cache, chain, watch } from "./live.mjs";
import { addPanel, make, notes } from "./panel.mjs";
import { text, unknownInputs } from "./text.mjs";

const IMAGES = ["start_image", "end_image"];
const INPUTS = ["sizing", "width", "height", "fit", "length", "batch_size"];
const CHECKED = ["width", "height", "length", "fit", "batch_size", "image_width", "image_height"];
const RESOLUTIONS = ["528x768", "608x1072", "768x528", "720x720", "832x480", "480x832", "1280x720", "720x1280"];
const DURATIONS = { 49: 3, 81: 5, 113: 7, 161: 10 };

export function addTo(node) {
  const panel = addPanel(node, "size");
  let last = {}; // the report of the last run
  watch(node, () => question(node, last), (answer, asked) => {
    const warnings = answer ? (answer.changes?.map(changed) ?? []) : [unknownInputs(node, asked.unknown)];
    if (answer && CHECKED.every((key) => last[key] === answer[key])) warnings.push(...(last.found ?? []));
    const focused = panel.element.querySelector("select:focus")?.className;
    panel.fill(
      make("div", { class: "row" }, resolutionList(node), durationList(node)),
      answer?.width ? make("div", { class: "readout" }, readout(answer)) : "",
      ...notes({ ...answer, warnings }),
    );
    if (focused) panel.element.querySelector(`select.${focused}`).focus();
  });
  chain(node, "onExecuted", (output) => {
    const report = output?.wan_relay?.[0];
    if (report) last = { ...report, source: imageSource(node)?.id };
  });
}

const imageSource = (node) => sourceOf(node, IMAGES[0]) ?? sourceOf(node, IMAGES[1]);

function question(node, last) {
  const { values, unknown } = readValues(node, INPUTS);
  if (unknown.length) return { unknown };
  const query = { ...values, fps: framesPerSecond(node) };
  const image = imageSize(imageSource(node), last);
  if (image) Object.assign(query, image);
  else if (values.sizing === "match image") {
    const linked = IMAGES.find((name) => isLinked(node, name));
    if (linked) return { unknown: [linked] };
  }
  const vae = sourceOf(node, "vae");
  if (vae?.comfyClass === "VAELoader") query.vae = valueOf(vae, "vae_name");
  return { route: "size", query, found: last.found };
}

/** The frame rate of the graph's one SaveVideo; else Wan's own 16. */
function framesPerSecond(node) {
  const savers = node.graph._nodes.filter((each) => each.comfyClass === "WanRelay_SaveVideo" && runs(each));
  return (savers.length === 1 && valueOf(savers[0], "fps")) || 16;
}

const ANNOTATED = / \[(input|output|temp)\]$/;

/** The size of what a LoadImage holds, else of what the same source gave in the last run. */
function imageSize(source, last) {
  const widget = source?.comfyClass === "LoadImage" && widgetOf(source, "image");
  const { image_width, image_height } = last;
  if (!widget) return image_width && last.source === source?.id ? { image_width, image_height } : undefined;
  if (!widget.options.values?.includes(widget.value) && !ANNOTATED.test(widget.value)) return undefined;
  if (!cache.has(widget.value)) loadImage(widget.value);
  return cache.get(widget.value);
}

function loadImage(name) {
  cache.set(name, undefined);
  const [type] = ANNOTATED.exec(name)?.slice(1) ?? ["input"];
  const [, folder, filename] = /^(?:(.*)\/)?([^/]*)$/.exec(name.replace(ANNOTATED, ""));
  const image = new Image();
  image.onload = () => cache.set(name, { image_width: image.naturalWidth, image_height: image.naturalHeight });
  image.src = api.apiURL(`/view?${new URLSearchParams({ filename, subfolder: folder ?? "", type })}`);
}

function readout({ image_width, image_height, width, height, fit, length, duration_s, fps }) {
  const values = { width, height, fit, length, seconds: duration_s.toFixed(2), fps };
  return image_width ? text("sizeFrom", { ...values, image_width, image_height }) : text("size", values);
}

const changed = (values) => text(`change_${values.change}`, values);

function pickList(kind, choices, current, pick) {
  const options = Object.entries(choices).map(([value, label]) => make("option", { value }, label));
  if (!(current in choices)) options.unshift(make("option", { value: current }, text("custom")));
  const list = make("select", { class: kind, title: text(kind), "aria-label": text(kind) }, ...options);
  list.value = current;
  list.addEventListener("change", () => pick(list.value));
  return list;
}

function resolutionList(node) {
  const choices = Object.fromEntries(RESOLUTIONS.map((size) => [size, size.replace("x", " × ")]));
  const current = `${valueOf(node, "width")}x${valueOf(node, "height")}`;
  return pickList("resolution", choices, current, (size) => {
    const [width, height] = size.split("x").map(Number);
    setWidget(node, "width", width);
    setWidget(node, "height", height);
  });
}

function durationList(node) {
  const label = ([length, seconds]) => [length, text("duration_choice", { seconds, length })];
  const choices = Object.fromEntries(Object.entries(DURATIONS).map(label));
  return pickList("duration", choices, String(valueOf(node, "length")), (length) => setWidget(node, "length", Number(length)));
}

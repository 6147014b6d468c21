// A panel: the DOM widget under a node's inputs, alike in the classic canvas and in Nodes 2.0.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { whileAdded } from "./live.mjs";
import { text } from "./text.mjs";

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes
 * @param {(Node | string)[]} children
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * Amber lines for warnings, a red one for a refusal or an error.
 * @param {Remarks} remarks
 */
export function notes({ warnings = [], error, refused } = {}) {
  const bad = refused ?? error;
  return [...(bad ? [make("div", { class: "bad" }, bad)] : []), ...warnings.map((w) => make("div", { class: "warn" }, w))];
}

/**
 * What would run and go ill all the same, in the user's language.
 * @param {{ mistakes?: Mistake[] }} answer
 */
export const mistakeNotes = ({ mistakes = [] }) =>
  notes({ warnings: mistakes.map((values) => text(`mistake_${values.mistake}`, values)) });

/**
 * @param {string} kind Its class. @param {string} label @param {() => void} press
 */
export function button(kind, label, press) {
  const element = make("button", { type: "button", class: kind }, label);
  element.addEventListener("click", press);
  return element;
}

/**
 * A list with a title; it shows `current`, or `other` where that is not among the choices.
 * @param {string} kind
 * @param {Record<string, string>} choices label by value
 * @param {string} current @param {string} other
 * @param {(value: string) => void} pick
 */
export function pickList(kind, choices, current, other, pick) {
  const options = Object.entries(choices).map(([value, label]) => make("option", { value }, label));
  if (!(current in choices)) options.unshift(make("option", { value: current }, other));
  const list = make("select", { class: kind, title: text(kind), "aria-label": text(kind) }, ...options);
  list.value = current;
  list.addEventListener("change", () => pick(list.value));
  return list;
}

/**
 * Words that can be copied.
 * @param {string} label @param {string} words
 */
export function copyLine(label, words) {
  const shown = make("span", {}, words);
  const copy = button("copy", text("copy"), () => {
    getSelection()?.selectAllChildren(shown); // the clipboard is closed to a page without https
    navigator.clipboard?.writeText(words);
  });
  return make("div", { class: "copied" }, `${label} `, shown, " ", copy);
}

document.head.append(make("link", { rel: "stylesheet", href: new URL("./panel.css", import.meta.url).href }));

/**
 * A panel's growth is no edit of the user's, so it is no step of undo. The editor has no public way to say so: it
 * compares the graph with its own last copy, and the copy gets the new size here.
 * @param {ComfyNode} node @param {number} before
 */
function keepHistory(node, before) {
  const { activeState, initialState } = app.extensionManager.workflow.activeWorkflow?.changeTracker ?? {};
  for (const state of [activeState, initialState]) {
    const graph = state?.definitions?.subgraphs?.find(({ id }) => id === node.graph?.id) ?? state;
    const saved = graph?.nodes.find(({ id }) => String(id) === String(node.id));
    if (saved?.size[1] === before) saved.size = [...node.size];
  }
}

/**
 * Call `show` with the sentence of the node's error when a run ends with one, and without when the next begins.
 * @param {ComfyNode} node @param {(sentence?: string) => void} show
 */
function followErrors(node, show) {
  /** @param {CustomEvent<{ node_id: ComfyNodeId, exception_message: string }>} event */
  const failed = ({ detail }) => isNode(node, detail.node_id) && show(detail.exception_message.trim());
  const begun = () => show();
  whileAdded(
    node,
    () => (api.addEventListener("execution_error", failed), api.addEventListener("execution_start", begun)),
    () => (api.removeEventListener("execution_error", failed), api.removeEventListener("execution_start", begun)),
  );
}

/**
 * Whether an id that the server speaks of is the node's; one inside a subgraph has those of its hosts before it.
 * @param {ComfyNode} node @param {ComfyNodeId | null} id
 */
export const isNode = (node, id) => String(id ?? "").split(":").pop() === String(node.id);

/**
 * Add a panel to the node. It is never saved and never sent. An error of the node's own run stands below what fills it.
 * @param {ComfyNode} node @param {string} name
 */
export function addPanel(node, name) {
  const element = make("div", { class: "wan-relay" });
  let height = 0;
  /** @type {HTMLElement[]} */
  let failure = [];
  const widget = node.addDOMWidget(`wan_relay_${name}`, "wan_relay_panel", element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true, // the editor's list of a node's values has no place for it
    margin: 6,
    getMinHeight: () => height,
    getMaxHeight: () => height,
  });
  widget.serialize = false;
  const fit = () => {
    const inner = [...element.children].reduce((sum, child) => sum + child.clientHeight + 4, 0);
    const wanted = inner ? inner + 20 : 0;
    if (!element.isConnected || Math.abs(wanted - height) < 2) return;
    const isTight = node.size[1] - node.computeSize()[1] < 8;
    height = wanted;
    const least = node.computeSize()[1];
    const [width, before] = node.size;
    node.setSize([width, isTight ? least : Math.max(least, before)]);
    keepHistory(node, before);
    node.graph?.setDirtyCanvas(true, true);
  };
  new ResizeObserver(fit).observe(element);
  followErrors(node, (sentence) => {
    failure.forEach((line) => line.remove());
    failure = sentence ? [make("div", { class: "bad failure" }, sentence)] : [];
    element.append(...failure);
    requestAnimationFrame(fit);
  });
  return {
    element,
    /** @param {(Node | string)[]} children */
    fill(...children) {
      const focused = element.querySelector("select:focus")?.className;
      element.replaceChildren(...children, ...failure);
      if (focused) /** @type {HTMLElement | null} */ (element.querySelector(`select.${focused}`))?.focus();
      requestAnimationFrame(fit);
    },
  };
}

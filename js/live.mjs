// Keeps each panel in step with its node: asks the server again whenever what the node would run with has changed.
import { api } from "../../scripts/api.js";
import { graphs } from "./graph_values.mjs";
import { language, loadTexts } from "./text.mjs";

/**
 * What is asked: the server, where there is a `route`; `show` alone where there is none.
 * @typedef {{ route?: string, query?: Record<string, any> }} Question
 * @typedef {{ question: () => Question, show: (answer: any, asked: any) => void, key?: string }} Panel
 * @typedef {{ node: ComfyNode, end: () => void }} Entry
 */

const TICK_MS = 250;
const RETRY_MS = 5000;
const panels = /** @type {Set<Panel>} */ (new Set());
const present = /** @type {Set<Entry>} */ (new Set());
/** @type {number | undefined} */
let timer;

/** What was fetched once, until `forget`. */
export const cache = new Map();

/** Ask for everything again: files may be new. */
export function forget() {
  cache.clear();
  panels.forEach((panel) => (panel.key = undefined));
}

api.addEventListener("reconnected", forget);

/**
 * Call `added` after an own method of the node, whichever extension set it before us.
 * @param {ComfyNode} node @param {"onAdded" | "onRemoved" | "onExecuted"} method @param {ComfyHook} added
 */
export function chain(node, method, added) {
  const before = node[method];
  node[method] = function (...args) {
    const result = before?.apply(this, args);
    added.apply(this, args);
    return result;
  };
}

/**
 * Watch a node while it is on the canvas. `show(answer, question)` draws what the server said to `question()`, or what
 * can be drawn without an answer.
 *
 * Values change by mouse, undo, links, other extensions and, in Nodes 2.0, past every callback: comparing the question
 * itself on a slow tick is the one thing that sees them all.
 * @template {Question} Asked
 * @template Answer
 * @param {ComfyNode} node
 * @param {() => Asked} question
 * @param {(answer: Answer | undefined, asked: Asked) => void} show
 */
export function watch(node, question, show) {
  const panel = /** @type {Panel} */ ({ question, show });
  whileAdded(node, () => panels.add(panel), () => panels.delete(panel));
  timer ??= setInterval(tick, TICK_MS);
}

/**
 * Call `begin` when the node is on the canvas, now or later, and `end` when it leaves.
 * @param {ComfyNode} node @param {() => void} begin @param {() => void} end
 */
export function whileAdded(node, begin, end) {
  const entry = { node, end };
  const enter = () => {
    present.add(entry);
    begin();
  };
  chain(node, "onAdded", enter);
  chain(node, "onRemoved", () => leave(entry));
  if (node.graph) enter();
}

/** @param {Entry} entry */
function leave(entry) {
  if (present.delete(entry)) entry.end();
}

function tick() {
  if (document.hidden) return;
  const there = graphs(); // a subgraph is removed whole, without a word to the nodes in it
  for (const entry of present) if (!there.some((graph) => graph === entry.node.graph)) leave(entry);
  for (const panel of panels) {
    try {
      askAnew(panel);
    } catch (error) {
      if (panel.key !== String(error)) console.error(error); // once, and the other panels go on
      panel.key = String(error);
    }
  }
}

/** @param {Panel} panel */
function askAnew(panel) {
  const question = panel.question();
  const key = JSON.stringify([language(), question]);
  if (key === panel.key) return;
  panel.key = key;
  refresh(panel, key, question);
}

/** @param {Panel} panel @param {string} key @param {Question} question */
async function refresh(panel, key, question) {
  let answer;
  try {
    await loadTexts();
    answer = question.route && (await ask(question.route, question.query));
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
    setTimeout(() => panel.key === key && (panel.key = undefined), RETRY_MS);
  }
  if (panel.key === key && panels.has(panel)) panel.show(answer, question); // the node may be gone by now
}

/** @param {string} route @param {Question["query"]} query */
async function ask(route, query) {
  const response = await api.fetchApi(`/wan_relay/${route}?${new URLSearchParams(query)}`);
  if (response.status >= 500) throw new Error(`${response.status} ${response.statusText}`);
  return await response.json();
}

// Keeps each panel in step with its node: asks the server again whenever what the node would be run with has changed.
import { api } from "../../scripts/api.js";
import { language, loadTexts } from "./text.mjs";

const TICK_MS = 250;
const panels = new Set();
let timer;

/** Call `added` after an own method of the node, whichever extension set it before us. */
export function chain(node, method, added) {
  const before = node[method];
  node[method] = function (...args) {
    const result = before?.apply(this, args);
    added.apply(this, args);
    return result;
  };
}

/**
 * Watch a node while it is on the canvas.
 * `question()` returns {route, query} to ask the server, or anything else that `show` can do without an answer.
 * `show(answer, question)` draws; `answer` is undefined where no route was asked.
 *
 * Widget values change by mouse, by undo, by links, by other extensions and, in Nodes 2.0, past every callback: comparing
 * the question itself on a slow tick is the one thing that sees them all.
 */
export function watch(node, question, show) {
  const panel = { question, show, key: undefined };
  whileAdded(node, () => start(panel), () => stop(panel));
}

/** Call `begin` when the node comes onto the canvas, or now where it is there already, and `end` when it leaves. */
export function whileAdded(node, begin, end) {
  chain(node, "onAdded", begin);
  chain(node, "onRemoved", end);
  if (node.graph) begin();
}

function start(panel) {
  panels.add(panel);
  timer ??= setInterval(tick, TICK_MS);
}

function stop(panel) {
  panels.delete(panel);
  if (panels.size) return;
  clearInterval(timer);
  timer = undefined;
}

function tick() {
  if (document.hidden) return;
  for (const panel of panels) {
    const question = panel.question();
    const key = JSON.stringify([language(), question]);
    if (key === panel.key) continue;
    panel.key = key;
    refresh(panel, key, question);
  }
}

async function refresh(panel, key, question) {
  await loadTexts();
  const answer = question.route && (await ask(question.route, question.query));
  if (panel.key === key) panel.show(answer, question);
}

async function ask(route, query) {
  try {
    const response = await api.fetchApi(`/wan_relay/${route}?${new URLSearchParams(query)}`);
    return await response.json();
  } catch (error) {
    return { error: String(error.message ?? error) };
  }
}

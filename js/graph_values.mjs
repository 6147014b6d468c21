// What the inputs of a node are set to, read through the links of the graph.
import { app } from "../../scripts/app.js";

const NEVER = 2;
const BYPASS = 4;

/**
 * What feeds an input when the graph runs, past reroutes, bypassed nodes and subgraph borders: a node; the widget of a
 * free input of a subgraph node; `hidden` one of several of these.
 * @typedef {{ source?: ComfyNode, widget?: ComfyWidget, hidden?: boolean }} Origin
 */

/** Root and subgraphs. */
export const graphs = () => [app.rootGraph, ...app.rootGraph.subgraphs.values()];

/** @param {ComfyNode} node */
export const runs = ({ mode }) => mode !== NEVER && mode !== BYPASS;

/**
 * The link into an input. On a subgraph node getInputLink tells of an output's inside, so there the links are searched.
 * @param {ComfyNode} node @param {number} slot
 */
function linkInto(node, slot) {
  if (!node.subgraph) return node.getInputLink(slot);
  const links = [...(node.graph?.links.values() ?? [])];
  return links.find(({ target_id, target_slot }) => target_id === node.id && target_slot === slot);
}

/**
 * @param {ComfyNode} node
 * @param {number} slot
 * @param {Set<ComfyInput>} passed the inputs on the way: links may run in a circle
 * @returns {Origin} empty where nothing feeds it
 */
function origin(node, slot, type = node.inputs[slot].type, passed = new Set()) {
  if (passed.has(node.inputs[slot])) return {};
  passed.add(node.inputs[slot]);
  const link = linkInto(node, slot);
  if (!link) return node.subgraph ? { widget: node.getWidgetFromSlot(node.inputs[slot]) } : {};
  const source = node.graph?.getNodeById(link.origin_id);
  if (!source) {
    const hosts = hostsOf(node.graph);
    return hosts.length === 1 ? origin(hosts[0], link.origin_slot, type, passed) : { hidden: true };
  }
  if (source.mode === NEVER) return {};
  if (source.type !== "Reroute" && source.mode !== BYPASS) return { source };
  // A bypassed node hands on the input beside its output, else the first of that type, else the first that fits.
  const inputs = source.inputs ?? [];
  /** @param {ComfyInput | undefined} input */
  const fits = (input) => input && LiteGraph.isValidConnection(input.type, type);
  const slots = [link.origin_slot, inputs.findIndex((input) => input.type === type), inputs.findIndex(fits)];
  const through = slots.find((each) => fits(inputs[each]));
  return through === undefined ? {} : origin(source, through, type, passed);
}

/**
 * The nodes that stand for the subgraph `graph`.
 * @param {ComfyGraph | null} graph
 */
const hostsOf = (graph) => graphs().flatMap(({ nodes }) => nodes.filter(({ subgraph }) => subgraph === graph));

/** @param {ComfyNode} node @param {string} name @returns {Origin} */
function originOf(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  return slot < 0 ? {} : origin(node, slot);
}

/**
 * The node that feeds the input `name` when the graph runs; undefined where none does.
 * @param {ComfyNode} node @param {string} name
 */
export const sourceOf = (node, name) => originOf(node, name).source;

/**
 * The node that feeds the input `name`, the one that feeds the same input of that, and so on while `goesOn`; each once,
 * since links may run in a circle.
 * @param {ComfyNode} node @param {string} name @param {(each: ComfyNode) => boolean} goesOn
 */
export function nodesBefore(node, name, goesOn = () => true) {
  const found = /** @type {Set<ComfyNode>} */ (new Set());
  for (let each = sourceOf(node, name); each && !found.has(each); each = goesOn(each) ? sourceOf(each, name) : undefined)
    found.add(each);
  return [...found];
}

/**
 * Whether something will arrive at the input `name`.
 * @param {ComfyNode} node @param {string} name
 */
export function isLinked(node, name) {
  const { source, hidden } = originOf(node, name);
  return Boolean(source || hidden);
}

/** @param {ComfyNode} node @param {string} name */
export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

/** @param {ComfyNode} node @param {string} name @param {string} file */
export const isListed = (node, name, file) => widgetOf(node, name)?.options.values?.includes(file);

/**
 * The value of an input: its widget's, or that of the primitive linked to it; undefined when only a run can tell.
 * @param {ComfyNode} node @param {string} name
 */
export function valueOf(node, name) {
  const { source, hidden, widget = widgetOf(node, name) } = originOf(node, name);
  if (source?.type.startsWith("Primitive")) return source.widgets?.[0]?.value;
  return source || hidden ? undefined : widget?.value;
}

/**
 * Split the inputs `names` into the values that are known and the names of those that only a run can tell.
 * @param {ComfyNode} node @param {string[]} names
 */
export function readValues(node, names) {
  const values = /** @type {Record<string, any>} */ ({});
  const unknown = [];
  for (const name of names) {
    const value = valueOf(node, name);
    if (value === undefined) unknown.push(name);
    else values[name] = value;
  }
  return { values, unknown };
}

/**
 * The graph's only node of a class; undefined where there are several.
 * @param {ComfyNode} node @param {string} comfyClass
 */
export function theOne(node, comfyClass) {
  const found = node.graph?.nodes.filter((each) => each.comfyClass === comfyClass && runs(each)) ?? [];
  return found.length === 1 ? found[0] : undefined;
}

/**
 * Whether what `node` gives out can arrive at `target`, through any nodes between.
 * @param {ComfyNode} node @param {ComfyNode} target
 */
export function feeds(node, target) {
  const found = new Set([target]);
  for (const each of found) {
    for (const { name } of each.inputs ?? []) {
      const source = sourceOf(each, name);
      if (source) found.add(source);
    }
  }
  return found.has(node);
}

/**
 * Set a widget as if the user had: value, callback, redraw.
 * @param {ComfyNode} node @param {string} name @param {unknown} value
 */
export function setWidget(node, name, value) {
  const widget = widgetOf(node, name);
  if (!widget) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  node.graph?.setDirtyCanvas(true, true);
}

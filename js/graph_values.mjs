// What the inputs of a node are set to, read through the links of the graph.
import { app } from "../../scripts/app.js";

const slotOf = (node, name) => node.inputs?.findIndex((input) => input.name === name) ?? -1;

/** The node that feeds the input `name`, past reroutes; undefined when it is not linked. */
export function sourceOf(node, name) {
  const slot = slotOf(node, name);
  let source = slot < 0 ? null : node.getInputNode(slot);
  while (source?.type === "Reroute") source = source.getInputNode(0);
  return source ?? undefined;
}

export const isLinked = (node, name) => node.inputs?.[slotOf(node, name)]?.link != null;

export const widgetOf = (node, name) => node?.widgets?.find((widget) => widget.name === name);

/** The value of an input: its widget's, or that of the primitive linked to it; undefined when only a run can tell. */
export function valueOf(node, name) {
  if (!isLinked(node, name)) return widgetOf(node, name)?.value;
  const source = sourceOf(node, name);
  return source?.type?.startsWith("Primitive") ? source.widgets?.[0]?.value : undefined;
}

/** Split the inputs `names` into the values that are known and the names of those that only a run can tell. */
export function readValues(node, names) {
  const values = {};
  const unknown = [];
  for (const name of names) {
    const value = valueOf(node, name);
    if (value === undefined) unknown.push(name);
    else values[name] = value;
  }
  return { values, unknown };
}

/** Set a widget as if the user had: value, callback, redraw. */
export function setWidget(node, name, value) {
  const widget = widgetOf(node, name);
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  node.graph?.setDirtyCanvas(true, true);
}

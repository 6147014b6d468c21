// A panel: the DOM widget under a node's inputs, alike in the classic canvas and in Nodes 2.0.
const STYLE = `
.wan-relay { --high: #d9772b; --low: #2f83c9; --warn: #945400; --bad: #b3261e; display: flex; flex-direction: column;
  gap: 4px; box-sizing: border-box; padding: 6px 8px; border-radius: 6px; overflow: hidden; user-select: text;
  background: var(--comfy-input-bg); color: var(--input-text); font: 12px/1.4 system-ui, sans-serif; }
.dark-theme .wan-relay { --high: #f0994d; --low: #5fb0f2; --warn: #f2b84b; --bad: #ff8a80; }
.wan-relay > * { flex: none; min-width: 0; overflow-wrap: anywhere; }
.wan-relay:empty { display: none; }
.wan-relay .warn { color: var(--warn); }
.wan-relay .bad { color: var(--bad); }
.wan-relay .high { color: var(--high); fill: var(--high); }
.wan-relay .low { color: var(--low); fill: var(--low); }
.wan-relay svg { display: block; width: 100%; height: 96px; font: 10px system-ui, sans-serif; }
.wan-relay rect { opacity: 0.55; }
.wan-relay rect.done, .wan-relay rect.now { opacity: 1; }
.wan-relay rect.now { stroke: var(--input-text); }
.wan-relay line { stroke: var(--input-text); stroke-dasharray: 4 3; }
.wan-relay svg text { fill: var(--input-text); }
.wan-relay .row { display: flex; gap: 6px; }
.wan-relay select { flex: 1; min-width: 0; padding: 2px; border-radius: 4px; font: inherit; color: inherit;
  background: var(--comfy-menu-bg); border: 1px solid var(--border-color); }
.wan-relay img { max-width: 100%; max-height: 320px; align-self: center; }
`;

/** An element with attributes and children; `svg` names are made in the SVG namespace. */
export function make(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "rect", "line", "text", "title"].includes(tag);
  const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Amber lines for warnings, a red one for a refusal or an error. */
export function notes({ warnings = [], error, refused } = {}) {
  const bad = refused ?? error;
  return [...(bad ? [make("div", { class: "bad" }, bad)] : []), ...warnings.map((w) => make("div", { class: "warn" }, w))];
}

/** Add a panel to the node; returns {element, fill(...children)}. It is never saved and never sent. */
export function addPanel(node, name) {
  if (!document.getElementById("wan-relay-style")) {
    document.head.append(make("style", { id: "wan-relay-style" }, STYLE));
  }
  const element = make("div", { class: "wan-relay" });
  let height = 0;
  const widget = node.addDOMWidget(`wan_relay_${name}`, "wan_relay_panel", element, {
    serialize: false,
    hideOnZoom: false,
    margin: 6,
    getMinHeight: () => height,
    getMaxHeight: () => height,
  });
  widget.serialize = false;
  const fit = () => {
    const inner = [...element.children].reduce((sum, child) => sum + child.offsetHeight + 4, 0);
    const wanted = inner ? inner + 20 : 0;
    if (!element.isConnected || Math.abs(wanted - height) < 2) return;
    const isTight = node.size[1] - node.computeSize()[1] < 8;
    height = wanted;
    const least = node.computeSize()[1];
    node.setSize([node.size[0], isTight ? least : Math.max(least, node.size[1])]);
    node.graph?.setDirtyCanvas(true, true);
  };
  new ResizeObserver(fit).observe(element);
  return {
    element,
    fill(...children) {
      element.replaceChildren(...children);
      requestAnimationFrame(fit);
    },
  };
}

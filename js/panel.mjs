// A panel: the DOM widget under a node's inputs, alike in the classic canvas and in Nodes 2.0.
const STYLE = `
.wan-relay { --high: #a8500c; --low: #1f6aa8; --warn: #805000; --bad: #a81c14; display: flex; flex-direction: column;
  gap: 4px; box-sizing: border-box; padding: 6px 8px; border-radius: 6px; overflow: hidden; user-select: text;
  background: var(--component-node-widget-background, var(--comfy-input-bg)); color: var(--input-text);
  font-size: 12px; line-height: 1.4; }
.dark-theme .wan-relay { --high: #f0994d; --low: #5fb0f2; --warn: #f2b84b; --bad: #ff8a80; }
.wan-relay > * { flex: none; min-width: 0; overflow-wrap: anywhere; }
.wan-relay:empty { display: none; }
.wan-relay .warn { color: var(--warn); }
.wan-relay .bad { color: var(--bad); }
.wan-relay .high { color: var(--high); }
.wan-relay .low { color: var(--low); }
.wan-relay .plot { display: flex; align-items: flex-end; gap: 1px; position: relative; height: 96px; }
.wan-relay .bar { flex: 1; min-width: 0; border-radius: 2px 2px 0 0; opacity: 0.6; text-align: center; font-size: 10px; }
.wan-relay .bar.high { color: #000; background: var(--high); }
.wan-relay .bar.low { color: #000; background: var(--low); }
.wan-relay .bar.done { opacity: 1; }
.wan-relay .bar.now { opacity: 1; box-shadow: 0 0 0 2px var(--input-text); z-index: 1; }
.wan-relay .level, .wan-relay .split { position: absolute; border: 0 dashed var(--input-text); }
.wan-relay .level { left: 0; right: 0; border-top-width: 1px; }
.wan-relay .split { top: 0; bottom: 0; border-left-width: 1px; }
.wan-relay .row { display: flex; gap: 6px; }
.wan-relay select { flex: 1; min-width: 0; padding: 2px; border-radius: 4px; font: inherit; color: inherit;
  background: var(--comfy-menu-bg); border: 1px solid var(--border-color); }
`;

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
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

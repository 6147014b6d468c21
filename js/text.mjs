// The texts of the panels, from locales/<language>/main.json, in the language that the editor is set to.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

/** @type {Record<string, { wanRelay?: Record<string, string> }> | undefined} */
let languages;
/** @type {Promise<unknown> | undefined} */
let loading;

export const language = () => app.extensionManager.setting.get("Comfy.Locale") ?? "en";

/** Fetch the texts once; every later call waits for the same answer. */
export function loadTexts() {
  loading ??= api
    .fetchApi("/i18n")
    .then((response) => response.json())
    .then((answer) => (languages = answer))
    .catch((error) => {
      loading = undefined;
      throw error;
    });
  return loading;
}

/**
 * The text of `key` with its {placeholders} filled in; English where a language lacks it.
 * @param {string} key
 * @param {Record<string, any>} values
 */
export function text(key, values = {}) {
  const found = languages?.[language()]?.wanRelay?.[key] ?? languages?.en?.wanRelay?.[key] ?? key;
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/**
 * What only a run can tell: the node's inputs `names`, as the user sees them.
 * @param {ComfyNode} node @param {string[]} names
 */
export function unknownInputs(node, names) {
  const labels = names.map((name) => {
    const input = node.inputs?.find((each) => each.name === name);
    return input?.label ?? input?.localized_name ?? name;
  });
  return text("unknown", { inputs: labels.join(", ") });
}

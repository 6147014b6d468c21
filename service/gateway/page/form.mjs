// The order as it stands in the form: read, checked, planned, filled in again.
import { byId } from "./dom.mjs";
import { PicturePlace, takeDropsAndPastes } from "./picture.mjs";
import { showProblems } from "./problems.mjs";
import { PRESETS, SHIFT } from "./relay_plan.mjs";
import { planOf } from "./sizes.mjs";
import { number, say } from "./words.mjs";

/**
 * @typedef {import("./history_store.mjs").KeptOrder} KeptOrder
 * @typedef {import("./problems.mjs").Words} Words
 */

const LARGEST_SEED = Number.MAX_SAFE_INTEGER;

export class OrderForm {
  /** @param {() => void} send */
  constructor(send) {
    this.form = byId("form", HTMLFormElement);
    this.prompt = byId("prompt", HTMLTextAreaElement);
    this.negative = byId("negative", HTMLTextAreaElement);
    this.expand = byId("expand", HTMLInputElement);
    this.aspect = byId("aspect", HTMLSelectElement);
    this.duration = byId("duration", HTMLInputElement);
    this.seed = byId("seed", HTMLInputElement);
    this.numbers = {
      steps: byId("steps", HTMLInputElement),
      cfg: byId("cfg", HTMLInputElement),
      shift: byId("shift", HTMLInputElement),
    };
    this.makeButton = byId("make", HTMLButtonElement);
    /** @type {() => void} */
    this.onPlan = () => undefined;
    this.start = new PicturePlace("start", (isUnreadable) => this.pictureChanged("start", isUnreadable));
    this.end = new PicturePlace("end", (isUnreadable) => this.pictureChanged("end", isUnreadable));
    takeDropsAndPastes([this.start, this.end]);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
    this.form.addEventListener("input", () => this.draw());
    byId("draw", HTMLButtonElement).addEventListener("click", () => {
      this.seed.value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
    });
  }

  /** @param {"start" | "end"} name @param {boolean} isUnreadable */
  pictureChanged(name, isUnreadable) {
    showProblems(isUnreadable ? { [name]: { key: "notAPicture" } } : {});
    this.draw();
  }

  /** @param {string} name */
  chosen(name) {
    return String(new FormData(this.form).get(name));
  }

  get pictures() {
    return { start: this.start.size, end: this.end.size };
  }

  get plan() {
    return planOf(this.choices(), this.pictures);
  }

  choices() {
    const values = { model: this.chosen("model"), resolution: this.chosen("resolution") };
    return { ...values, aspect_ratio: this.aspect.value, duration: Number(this.duration.value) };
  }

  /** The order without its pictures. @returns {KeptOrder} */
  order() {
    const hasPicture = Boolean(this.start.file || this.end.file);
    const negative = this.negative.value.trim();
    return {
      prompt: this.prompt.value.trim(),
      task_type: hasPicture ? "i2v" : "t2v",
      ...(negative ? { negative_prompt: negative } : {}),
      ...this.choices(),
      enable_prompt_expansion: this.expand.checked,
      seed: this.seed.value.trim() ? Number(this.seed.value) : -1,
      ...Object.fromEntries(Object.entries(this.given())),
    };
  }

  /** The advanced fields that are filled in. @returns {{ steps?: number, cfg?: number, shift?: number }} */
  given() {
    const filled = Object.entries(this.numbers).filter(([, { value }]) => value.trim());
    return Object.fromEntries(filled.map(([name, { value }]) => [name, asNumber(value)]));
  }

  /** What the order lacks, before it is sent. @returns {Record<string, Words>} */
  faults() {
    /** @type {Record<string, Words>} */
    const faults = {};
    const { model } = this.choices();
    if (!this.prompt.value.trim()) faults.prompt = { key: "needPrompt" };
    if (!this.plan) faults.start = { key: "tooThin" };
    if (model === "reference" && !this.start.file && !this.end.file) faults.start = { key: "referenceNeedsPicture" };
    if (model === "5b" && this.end.file) faults.end = { key: "fiveNoEnd" };
    const seed = this.seed.value.trim();
    if (seed && !(/^\d+$/.test(seed) && Number(seed) <= LARGEST_SEED))
      faults.seed = { key: "needWhole", values: { low: 0, high: LARGEST_SEED } };
    const { steps, cfg, shift } = this.given();
    if (steps !== undefined && !(Number.isInteger(steps) && steps >= 1 && steps <= 50))
      faults.steps = { key: "needWhole", values: { low: 1, high: 50 } };
    if (cfg !== undefined && !(cfg >= 0 && cfg <= 30)) faults.cfg = { key: "needNumber", values: { low: 0, high: 30 } };
    if (shift !== undefined && !(shift >= 0 && shift <= 100))
      faults.shift = { key: "needNumber", values: { low: 0, high: 100 } };
    return faults;
  }

  /** @param {boolean} isSending */
  setSending(isSending) {
    this.makeButton.disabled = isSending;
    this.makeButton.textContent = say(isSending ? "sending" : "make");
  }

  /** Everything that follows from what is filled in. */
  draw() {
    const { model, resolution, duration } = this.choices();
    const preset = PRESETS[model];
    this.start.draw();
    this.end.draw();
    byId("duration_shown", HTMLOutputElement).value = say("seconds", { seconds: number(duration) });
    this.duration.setAttribute("aria-valuetext", say("seconds", { seconds: number(duration) }));
    this.numbers.steps.placeholder = String(preset.steps);
    this.numbers.cfg.placeholder = number(preset.cfg);
    this.numbers.shift.placeholder = number(SHIFT[resolution]);
    const isIdle = (this.given().cfg ?? preset.cfg) === 1;
    byId("negative_hint", HTMLParagraphElement).textContent = say(isIdle ? "negativeIdle" : "negativeUsed");
    this.drawReadout();
    this.onPlan();
  }

  drawReadout() {
    const plan = this.plan;
    const kind = ["fromWords", "fromPicture", "fromEnd", "fromBoth"][Number(!!this.start.file) + 2 * Number(!!this.end.file)];
    const lines = plan
      ? [
          say("planned", { ...plan, seconds: number(plan.seconds) }),
          [say(kind), ...plan.changes.map(lossOf)].join(" "),
        ]
      : [say("tooThin")];
    const elements = lines.map((line, i) => {
      const element = document.createElement("p");
      element.className = i ? "hint" : "planned";
      element.textContent = line;
      return element;
    });
    byId("readout", HTMLDivElement).replaceChildren(...elements);
  }

  /** @param {KeptOrder} order @param {number} seed */
  fill(order, seed) {
    this.prompt.value = order.prompt;
    this.negative.value = order.negative_prompt ?? "";
    this.expand.checked = order.enable_prompt_expansion;
    this.aspect.value = order.aspect_ratio;
    this.duration.value = String(order.duration);
    this.seed.value = String(seed);
    for (const [name, value] of [["model", order.model], ["resolution", order.resolution]])
      for (const each of this.form.querySelectorAll(`input[name=${name}]`))
        /** @type {HTMLInputElement} */ (each).checked = /** @type {HTMLInputElement} */ (each).value === value;
    this.numbers.steps.value = String(order.steps ?? "");
    this.numbers.cfg.value = String(order.cfg ?? "");
    this.numbers.shift.value = String(order.shift ?? "");
    this.draw();
  }

  /** @param {number} seed */
  fillSeed(seed) {
    this.seed.value = String(seed);
    this.seed.focus();
  }
}

/** Also with a decimal comma. @param {string} text */
const asNumber = (text) => (/^\s*\d*[.,]?\d+\s*$/.test(text) ? Number(text.replace(",", ".")) : NaN);

/** @param {import("./sizes.mjs").Change} change */
function lossOf({ picture, change, percent }) {
  return say(`${picture}_${change}`, { percent: number(percent, { maximumFractionDigits: 1 }) });
}

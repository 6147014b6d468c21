// The stage: the video that is looked at, from waiting in line to the file.
import { button, make } from "./dom.mjs";
import { factsOf, sizeOf } from "./facts.mjs";
import { isLive } from "./follow.mjs";
import { isOver } from "./history_store.mjs";
import { barsOf, legendOf, plotOf } from "./plot.mjs";
import { shown, wordsOf } from "./problems.mjs";
import { number, say } from "./words.mjs";

/**
 * @typedef {import("./history_store.mjs").Entry} Entry
 * @typedef {{
 *   cancel: (id: string) => Promise<void>, useFrame: (file: VideoFile) => Promise<void>, useSeed: (seed: number) => void,
 *   useSettings: (entry: Entry) => void, keepThumbnail: (id: string, video: HTMLVideoElement) => void,
 * }} Actions
 */

/** The executor's stages beside the steps. @type {Record<string, string>} */
const STAGES = {
  downloading: "stageDownloading",
  waiting: "preparing",
  loading: "stageLoading",
  decoding: "stageDecoding",
  upscaling: "stageUpscaling",
  interpolating: "stageInterpolating",
  saving: "stageSaving",
};

export class Stage {
  /** @param {HTMLElement} element @param {Actions} actions */
  constructor(element, actions) {
    this.element = element;
    this.actions = actions;
    this.frame = make("div", { class: "frame" });
    this.status = make("p", { class: "status", role: "status" });
    this.left = make("p", { class: "left" });
    this.body = make("div", { class: "body" });
    element.append(this.frame, make("div", { class: "line" }, this.status, this.left), this.body);
    /** @type {Entry | undefined} */
    this.entry = undefined;
    this.isLost = false;
    this.isCancelling = false;
    /** What the frame shows, so that a video is not loaded twice. */
    this.shownKey = "";
    /** @type {{ at: number, seconds: number } | undefined} */
    this.estimate = undefined;
    setInterval(() => this.drawLeft(), 1000);
  }

  /**
   * @param {Entry | undefined} entry
   * @param {VideoTask | undefined} task with its link, where it is fresh
   * @param {{ width: number, height: number } | undefined} planned the form's, for the empty frame
   */
  show(entry, task, planned) {
    if (entry?.id !== this.entry?.id) this.isCancelling = false;
    this.entry = entry;
    const size = task?.video ?? entry ?? planned ?? { width: 16, height: 9 };
    this.frame.style.setProperty("--aspect", `${size.width} / ${size.height}`);
    this.frame.style.setProperty("--ratio", String(size.width / size.height));
    this.element.classList.toggle("idle", !entry);
    if (!entry) return this.showEmpty();
    const now = { ...entry, task: task ?? entry.task };
    this.takeEstimate(now.task);
    this.drawFrame(now);
    this.status.replaceChildren(...this.statusOf(now));
    this.drawLeft();
    const parts = isLive(now.task) && !isOver(now) ? this.liveParts(now) : this.endedParts(now);
    keepFocus(this.body, parts);
  }

  showEmpty() {
    this.fillFrame("empty", () => [make("p", { class: "hint" }, say("empty"))]);
    this.status.replaceChildren();
    this.left.textContent = "";
    this.body.replaceChildren();
  }

  /** @param {boolean} isLost */
  setLost(isLost) {
    if (isLost === this.isLost) return;
    this.isLost = isLost;
    if (this.entry && isLive(this.entry.task)) this.status.replaceChildren(...this.statusOf(this.entry));
  }

  /** @param {string} key @param {() => Node[]} parts */
  fillFrame(key, parts) {
    const whole = `${key} ${document.documentElement.lang}`;
    if (whole === this.shownKey) return;
    this.shownKey = whole;
    this.frame.replaceChildren(...parts());
  }

  /** @param {Entry} entry */
  drawFrame({ id, task, thumbnail, order }) {
    const { video } = task;
    if (video?.url) return this.fillFrame(`video ${id}`, () => [this.player(id, video, order.prompt)]);
    const picture = thumbnail ? [make("img", { src: thumbnail, alt: "", class: isLive(task) ? "waits" : "" })] : [];
    this.fillFrame(`picture ${id} ${isLive(task)}`, () => picture);
  }

  /** @param {string} id @param {VideoFile} file @param {string} prompt */
  player(id, file, prompt) {
    const attributes = { controls: "", loop: "", muted: "", playsinline: "", crossorigin: "anonymous", "aria-label": prompt };
    const video = make("video", { ...attributes, src: file.url ?? "", width: String(file.width), height: String(file.height) });
    video.muted = true;
    video.autoplay = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    video.addEventListener("loadeddata", () => this.actions.keepThumbnail(id, video), { once: true });
    return video;
  }

  /** @param {Entry} entry @returns {(Node | string)[]} */
  statusOf(entry) {
    const { task } = entry;
    if (isOver(entry)) return [say("gone")];
    if (task.status === "failed" && task.error) return [make("strong", {}, say("failed")), " ", ...shown(wordsOf(task.error))];
    if (task.status === "cancelled") return [say("cancelled")];
    if (!isLive(task)) return [task.video ? make("span", { class: "planned" }, sizeOf(task.video)) : ""];
    if (this.isLost) return [say("connectionLost")];
    if (this.isCancelling) return [say("cancelling")];
    if (task.status === "queued")
      return [task.queue_position ? say("waitingBehind", { count: task.queue_position }) : say("waitingFirst")];
    const { stage, step, steps, expert } = task.progress ?? {};
    if (stage !== "sampling" || !steps) return [say(STAGES[stage ?? ""] ?? "preparing")];
    if (step == null || step >= steps) return [say(STAGES.decoding)];
    const words = say("step", { step: step + 1, steps });
    const runs = barsOf(entry)[step]?.expert ?? expert;
    return runs ? [`${words}, `, make("b", { class: runs }, say(runs))] : [words];
  }

  /** @param {VideoTask} task */
  takeEstimate(task) {
    const seconds = isLive(task) ? task.progress?.seconds_left : null;
    if (seconds == null) this.estimate = undefined;
    else if (this.estimate?.seconds !== seconds) this.estimate = { at: Date.now(), seconds };
  }

  drawLeft() {
    if (!this.estimate) return void (this.left.textContent = "");
    const seconds = Math.max(1, Math.round(this.estimate.seconds - (Date.now() - this.estimate.at) / 1000));
    this.left.textContent = say("left", { time: spell(seconds) });
  }

  /** @param {Entry} entry */
  liveParts(entry) {
    const percent = Math.round(entry.task.progress?.percent ?? 0);
    const bar = make("div", {
      role: "progressbar",
      "aria-label": say("progress"),
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      "aria-valuenow": String(percent),
    });
    bar.append(plotOf(entry));
    const cancel = button(say("cancel"), () => this.cancel(entry.id), { "data-keep": "cancel" });
    cancel.disabled = this.isCancelling;
    return [bar, legendOf(entry), make("div", { class: "buttons" }, cancel)];
  }

  /** @param {string} id */
  async cancel(id) {
    this.isCancelling = true;
    if (this.entry) this.show(this.entry, undefined, undefined);
    try {
      await this.actions.cancel(id);
    } finally {
      this.isCancelling = false;
      if (this.entry?.id === id) this.show(this.entry, undefined, undefined);
    }
  }

  /** @param {Entry} entry */
  endedParts(entry) {
    const { task } = entry;
    const buttons = make("div", { class: "buttons" });
    const { video } = task;
    if (video?.url) {
      const name = `wan_relay_${task.seed}.${video.content_type.includes("webm") ? "webm" : "mp4"}`;
      buttons.append(
        make("a", { class: "button main", href: video.url, download: name, "data-keep": "download" }, say("download")),
        button(say("useLastFrame"), () => this.actions.useFrame(video), { "data-keep": "frame" }),
      );
    }
    if (task.status === "succeeded") buttons.append(button(say("useSeed"), () => this.actions.useSeed(task.seed), { "data-keep": "seed" }));
    buttons.append(button(say("useSettings"), () => this.actions.useSettings(entry), { "data-keep": "settings" }));
    const warnings = task.warnings.map((words) => make("li", { lang: "en" }, words));
    return [
      buttons,
      ...(warnings.length ? [make("div", { class: "warnings" }, make("h2", {}, say("warnings")), make("ul", {}, ...warnings))] : []),
      ...(task.status === "succeeded" ? [plotOf(entry), legendOf(entry)] : []),
      factsOf(entry),
    ];
  }
}

/** @param {number} seconds */
function spell(seconds) {
  if (seconds < 90) return say("seconds", { seconds: number(seconds) });
  return say("minutes", { minutes: Math.floor(seconds / 60), seconds: seconds % 60 });
}

/** New parts in place of the old, with the focus on the one that had it. @param {HTMLElement} parent @param {Node[]} parts */
function keepFocus(parent, parts) {
  const focused = document.activeElement;
  const kept = focused && parent.contains(focused) ? focused.getAttribute("data-keep") : null;
  parent.replaceChildren(...parts);
  if (!kept) return;
  const again = parent.querySelector(`[data-keep="${kept}"]`) ?? parent.querySelector("[data-keep]");
  if (again instanceof HTMLElement) again.focus();
}

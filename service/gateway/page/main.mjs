// The page put together: the form, the stage, the history, and what passes between them.
import * as api from "./api.mjs";
import { askForKey, isSureToDelete } from "./dialogs.mjs";
import { byId, make } from "./dom.mjs";
import { follow, isLive, watchOthers } from "./follow.mjs";
import { OrderForm } from "./form.mjs";
import { lastFrame, thumbnailOf } from "./frames.mjs";
import { drawHistory } from "./history_list.mjs";
import { addEntry, allEntries, changeEntry, dropEntry, entryOf, isOver, keptTask, onHistory, openHistory } from "./history_store.mjs";
import { fieldOf, shown, showProblems, wordsOf } from "./problems.mjs";
import { Stage } from "./stage.mjs";
import { chooseLanguage, fillIn, firstLanguage, LANGUAGES, loadWords, say } from "./words.mjs";

/** Tasks as the gateway last said them, with their links. @type {Map<string, VideoTask>} */
const fresh = new Map();
/** @type {string | undefined} */
let chosen;
/** @type {string | undefined} */
let lastSent;
let following = new AbortController();
/** An order that was sent and not answered: sent again as it was, it is the same video. */
let unanswered = { order: "", id: "" };
/** @type {import("./problems.mjs").Words | undefined} */
let historyProblem;

await loadWords(firstLanguage());
openHistory();
api.onKeyNeeded(async (isWrong) => {
  const key = await askForKey(isWrong);
  queueMicrotask(drawKeyButton);
  return key;
});
const form = new OrderForm(send);
const stage = new Stage(byId("stage", HTMLElement), { cancel, useFrame, useSeed, useSettings, keepThumbnail });
form.onPlan = () => chosen === undefined && drawStage();
onHistory(draw);
openHeader();
drawAll();
byId("main", HTMLElement).hidden = false;
choose(firstChosen());
watchOthers(otherLiveIds, { onTask, onGone });

function openHeader() {
  const language = byId("language", HTMLSelectElement);
  for (const [value, name] of Object.entries(LANGUAGES)) language.append(make("option", { value, lang: value }, name));
  language.value = document.documentElement.lang;
  language.addEventListener("change", async () => {
    await chooseLanguage(language.value);
    showProblems({});
    drawAll();
  });
  byId("key", HTMLButtonElement).addEventListener("click", () => {
    if (api.hasKey()) api.forgetKey();
    api.allowAsking();
    drawKeyButton();
    choose(chosen);
    if (!chosen) api.get("0").catch(() => drawKeyButton());
  });
}

/** What the address names, else what still runs. */
function firstChosen() {
  const named = location.hash.slice(1);
  return entryOf(named) ? named : allEntries().find(({ task, isGone }) => isLive(task) && !isGone)?.id;
}

function otherLiveIds() {
  return allEntries().flatMap(({ id, task, isGone }) => (id !== chosen && isLive(task) && !isGone ? [id] : []));
}

/** Look at a video, and follow it. @param {string | undefined} id */
function choose(id) {
  following.abort();
  following = new AbortController();
  chosen = id;
  stage.setLost(false);
  history.replaceState(null, "", id ? `#${id}` : location.pathname);
  draw();
  const entry = id ? entryOf(id) : undefined;
  if (!entry || isOver(entry)) return;
  const { signal } = following;
  follow(entry.id, signal, { onTask, onGone, onTrouble: (isLost) => signal.aborted || stage.setLost(isLost) }).then(drawKeyButton);
}

/** @param {VideoTask} task */
function onTask(task) {
  const entry = entryOf(task.id);
  if (!entry) return;
  fresh.set(task.id, task);
  const experts = [...entry.experts];
  const { step, expert } = task.progress ?? {};
  if (step && expert) experts[step - 1] = expert;
  changeEntry(task.id, { task: keptTask(task), experts: Array.from(experts, (each) => each ?? null) });
  if (task.error && task.id === lastSent && fieldOf(task.error) !== "form" && isLive(entry.task))
    showProblems({ [fieldOf(task.error)]: wordsOf(task.error) }, false);
}

/** @param {string} id */
function onGone(id) {
  fresh.delete(id);
  changeEntry(id, { isGone: true });
}

async function send() {
  const faults = form.faults();
  showProblems(faults);
  if (Object.keys(faults).length) return;
  api.allowAsking();
  form.setSending(true);
  try {
    const order = form.order();
    const [image_url, end_image_url] = await Promise.all([form.start.dataUri(), form.end.dataUri()]);
    const { width = 16, height = 9, frames = 0 } = form.plan ?? {};
    const thumbnail = form.start.thumbnail() ?? form.end.thumbnail();
    const body = JSON.stringify({ ...order, image_url, end_image_url });
    if (unanswered.order !== body) unanswered = { order: body, id: newId() };
    const task = await api.submit(body, unanswered.id);
    unanswered = { order: "", id: "" };
    lastSent = task.id;
    addEntry({ id: task.id, at: Date.now(), order, width, height, frames, thumbnail, experts: [], task: keptTask(task) });
    choose(task.id);
    stage.element.focus({ preventScroll: true });
    stage.element.scrollIntoView({ block: matchMedia("(max-width: 900px)").matches ? "start" : "nearest" });
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    showProblems({ [fieldOf(error.problem)]: wordsOf(error.problem, error.retryAfterS) });
  } finally {
    form.setSending(false);
    drawKeyButton();
  }
}

/** For a header; randomUUID is for https alone. */
const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");

/** @param {string} id */
async function cancel(id) {
  api.allowAsking();
  await told(() => api.remove(id));
}

/** @param {string} id */
async function removeEntry(id) {
  const entry = entryOf(id);
  if (!entry || !(await isSureToDelete(isLive(entry.task) && !isOver(entry)))) return;
  api.allowAsking();
  const isRemoved = await told(async () => {
    if (isLive(entry.task)) await api.remove(id);
    await api.remove(id);
  });
  if (!isRemoved) return;
  fresh.delete(id);
  dropEntry(id);
  if (id === chosen) choose(undefined);
}

/** Whether it was done, or there was nothing left to do; else the history says why not. @param {() => Promise<unknown>} act */
async function told(act) {
  historyProblem = undefined;
  try {
    await act();
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    if (error.status !== 404) historyProblem = wordsOf(error.problem, error.retryAfterS);
  }
  draw();
  return !historyProblem;
}

/** @param {VideoFile} video */
async function useFrame({ url, fps }) {
  try {
    await form.start.take(await lastFrame(url ?? "", fps));
    form.start.zone.scrollIntoView({ block: "nearest" });
    form.start.input.focus();
  } catch {
    showProblems({ start: { key: "frameFailed" } });
  }
}

/** @param {number} seed */
function useSeed(seed) {
  form.fillSeed(seed);
}

/** @param {import("./history_store.mjs").Entry} entry */
function useSettings({ order, task }) {
  form.fill(order, task.status === "succeeded" ? task.seed : order.seed);
  form.prompt.focus();
}

/** A video that was made of words has its first picture now. @param {string} id @param {HTMLVideoElement} video */
function keepThumbnail(id, video) {
  if (entryOf(id)?.thumbnail) return;
  changeEntry(id, { thumbnail: thumbnailOf(video) });
}

function drawAll() {
  fillIn();
  form.setSending(false);
  form.draw();
  draw();
}

function draw() {
  drawKeyButton();
  drawStage();
  const problem = historyProblem ? [make("p", { class: "problem", role: "alert" }, ...shown(historyProblem))] : [];
  drawHistory(byId("history", HTMLElement), chosen, { choose, remove: removeEntry }, problem);
}

function drawStage() {
  const entry = chosen === undefined ? undefined : entryOf(chosen);
  const task = entry && !isOver(entry) ? fresh.get(entry.id) : undefined;
  stage.show(entry, task, form.plan);
  const isRunning = entry && isLive(entry.task) && !isOver(entry);
  document.title = isRunning ? `${Math.round(entry.task.progress?.percent ?? 0)}% · Wan Relay` : "Wan Relay";
}

function drawKeyButton() {
  const key = byId("key", HTMLButtonElement);
  key.hidden = !api.hasKey() && !api.isKeyDeclined();
  key.textContent = say(api.hasKey() ? "forgetKey" : "enterKey");
}

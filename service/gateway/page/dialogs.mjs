// The two questions that the page asks: the key, and whether a video shall really go.
import { byId } from "./dom.mjs";
import { say } from "./words.mjs";

const SENDABLE = /^[\x21-\x7e]+$/; // what a header can carry, and every key of a gateway is

/** @param {HTMLDialogElement} dialog @returns {Promise<string>} the value of the button that closed it */
function answered(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

/** @param {boolean} isWrong whether one was refused @returns {Promise<string | undefined>} */
export async function askForKey(isWrong) {
  const dialog = byId("key_dialog", HTMLDialogElement);
  const input = byId("key_value", HTMLInputElement);
  byId("key_why", HTMLParagraphElement).textContent = say(isWrong ? "keyWrong" : "keyFirst");
  byId("key_why", HTMLParagraphElement).classList.toggle("problem", isWrong);
  input.value = "";
  const use = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    dialog.close("use");
  };
  input.addEventListener("keydown", use);
  const waiting = answered(dialog);
  input.focus();
  const answer = await waiting;
  input.removeEventListener("keydown", use);
  const key = input.value.trim();
  input.value = "";
  if (answer !== "use" || !key) return undefined;
  return SENDABLE.test(key) ? key : await askForKey(true);
}

/** @param {boolean} isLive */
export async function isSureToDelete(isLive) {
  byId("sure_title", HTMLHeadingElement).textContent = say("sureTitle");
  byId("sure_text", HTMLParagraphElement).textContent = say(isLive ? "sureLive" : "sureText");
  byId("sure_yes", HTMLButtonElement).textContent = say("delete");
  return (await answered(byId("sure_dialog", HTMLDialogElement))) === "yes";
}

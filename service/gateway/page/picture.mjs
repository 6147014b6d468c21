// A place for a picture: chosen, dropped or pasted; shown, measured, and sent as it is.
import { byId } from "./dom.mjs";
import { thumbnailOf } from "./frames.mjs";
import { say } from "./words.mjs";

export class PicturePlace {
  /** @param {"start" | "end"} name @param {(isUnreadable: boolean) => void} changed */
  constructor(name, changed) {
    this.zone = byId(`zone_${name}`, HTMLDivElement);
    this.input = byId(name, HTMLInputElement);
    this.image = /** @type {HTMLImageElement} */ (this.zone.querySelector("img"));
    this.remove = /** @type {HTMLButtonElement} */ (this.zone.querySelector(".remove"));
    this.shownSize = byId(`size_${name}`, HTMLSpanElement);
    this.changed = changed;
    /** @type {File | undefined} */
    this.file = undefined;
    this.input.addEventListener("change", () => this.input.files?.[0] && this.take(this.input.files[0]));
    this.remove.addEventListener("click", () => {
      this.clear();
      this.input.focus();
    });
    for (const kind of ["dragenter", "dragover"]) this.zone.addEventListener(kind, () => this.zone.classList.add("over"));
    for (const kind of ["dragleave", "drop"]) this.zone.addEventListener(kind, () => this.zone.classList.remove("over"));
  }

  /** Its pixels, as they are seen: a turned photo counts as turned. @returns {[number, number] | undefined} */
  get size() {
    return this.file && [this.image.naturalWidth, this.image.naturalHeight];
  }

  /** @param {File} file */
  async take(file) {
    const address = URL.createObjectURL(file);
    const trial = new Image();
    trial.src = address;
    const isPicture = await trial.decode().then(
      () => true,
      () => false,
    );
    this.forget();
    if (isPicture) {
      this.file = file;
      this.image.src = address;
      await this.image.decode();
    } else URL.revokeObjectURL(address);
    this.draw();
    this.changed(!isPicture);
  }

  clear() {
    this.forget();
    this.draw();
    this.changed(false);
  }

  forget() {
    this.input.value = "";
    this.file = undefined;
    if (this.image.src) URL.revokeObjectURL(this.image.src);
    this.image.removeAttribute("src");
  }

  draw() {
    const size = this.size;
    this.zone.classList.toggle("full", Boolean(size));
    this.image.hidden = this.remove.hidden = !size;
    this.shownSize.textContent = size ? say("pictureSize", { width: size[0], height: size[1] }) : "";
  }

  thumbnail() {
    return this.file && thumbnailOf(this.image);
  }

  /** The file as a data URI. @returns {Promise<string | undefined>} */
  async dataUri() {
    const file = this.file;
    if (!file) return undefined;
    return await new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(String(reader.result));
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });
  }
}

/**
 * Pictures that are dropped or pasted anywhere go to the place under the pointer, else to the first that is empty.
 * @param {PicturePlace[]} places
 */
export function takeDropsAndPastes(places) {
  /** @param {DataTransfer | null} data */
  const pictures = (data) => [...(data?.files ?? [])].filter(({ type }) => !type || type.startsWith("image/"));
  /** @param {File[]} files @param {EventTarget | null} target */
  const hand = (files, target) => {
    const under = places.find(({ zone }) => target instanceof Node && zone.contains(target));
    const free = places.filter((place) => place !== under && !place.file);
    const order = [...(under ? [under] : []), ...free, ...places];
    files.slice(0, places.length).forEach((file, i) => order[i].take(file));
  };
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    hand(pictures(event.dataTransfer), event.target);
  });
  document.addEventListener("paste", (event) => {
    const files = pictures(event.clipboardData);
    if (!files.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    hand(files, document.activeElement);
  });
}

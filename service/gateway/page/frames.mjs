// Pictures out of pictures and videos: small ones for the history, and a video's last frame.

const THUMBNAIL = 320;
const DEADLINE_MS = 30_000;

/** @param {CanvasImageSource} source @param {number} width @param {number} height */
function drawn(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d")?.drawImage(source, 0, 0, width, height);
  return canvas;
}

/**
 * A small JPEG as a data URI.
 * @param {HTMLImageElement | HTMLVideoElement} source
 */
export function thumbnailOf(source) {
  const [width, height] =
    source instanceof HTMLVideoElement ? [source.videoWidth, source.videoHeight] : [source.naturalWidth, source.naturalHeight];
  const scale = Math.min(1, THUMBNAIL / Math.max(width, height));
  return drawn(source, Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))).toDataURL("image/jpeg", 0.7);
}

/**
 * The last frame of the video behind a link, whole, as a PNG file. The file is fetched first: where a server knows no
 * ranges, a browser cannot seek in what it plays.
 * @param {string} url @param {number} fps
 */
export async function lastFrame(url, fps) {
  const response = await fetch(url);
  if (!response.ok) throw new Error("there is no file");
  const address = URL.createObjectURL(await response.blob());
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.src = address;
  try {
    await once(video, "loadeddata");
    video.currentTime = Math.max(0, video.duration - 0.5 / fps);
    await once(video, "seeked");
    const canvas = drawn(video, video.videoWidth, video.videoHeight);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    if (!(blob instanceof Blob)) throw new Error("the frame cannot be read");
    return new File([blob], "last_frame.png", { type: "image/png" });
  } finally {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(address);
  }
}

/** @param {HTMLVideoElement} video @param {string} event */
function once(video, event) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event}`)), DEADLINE_MS);
    const settle = (/** @type {() => void} */ end) => () => {
      clearTimeout(timer);
      end();
    };
    video.addEventListener(event, settle(() => resolve(undefined)), { once: true });
    video.addEventListener("error", settle(() => reject(video.error)), { once: true });
  });
}

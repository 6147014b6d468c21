// One check of @runwayml/sdk at a time: `node runway.mjs CHECK` prints what was seen as JSON. URL, PICTURE and KEY are
// environment variables.

import RunwayML, { APIError, BadRequestError, NotFoundError, TaskFailedError } from "@runwayml/sdk";

const { URL: BASE, PICTURE, KEY = "anything", WORDS } = process.env;
const client = new RunwayML({ apiKey: KEY, baseURL: `${BASE}/runway` });
const wish = (promptText, more = {}) => ({
  model: "gen4_turbo",
  promptImage: PICTURE,
  promptText,
  ratio: "1280:720",
  duration: 5,
  ...more,
});

async function failure(work) {
  try {
    await work();
  } catch (error) {
    return {
      isApi: error instanceof APIError,
      isBadRequest: error instanceof BadRequestError,
      isNotFound: error instanceof NotFoundError,
      isTaskFailed: error instanceof TaskFailedError,
      status: error.status,
      message: error.message,
      body: error.error,
      task: error.taskDetails,
    };
  }
  return null;
}

async function until(id, ...states) {
  for (;;) {
    const task = await client.tasks.retrieve(id);
    if (states.includes(task.status)) return task;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const ended = (id) => until(id, "SUCCEEDED", "FAILED", "CANCELLED");

const checks = {
  async waits() {
    return client.imageToVideo.create(wish("hello", { watermark: true })).waitForTaskOutput();
  },

  async states() {
    const running = await client.imageToVideo.create(wish("slow 6"));
    const waiting = await client.imageToVideo.create(wish("slow 0.1"));
    const first = await until(running.id, "RUNNING");
    const second = await client.tasks.retrieve(waiting.id);
    return [first, second, await ended(waiting.id)];
  },

  async inputs() {
    const file = new File([Buffer.from(PICTURE.split(",")[1], "base64")], "photo.png", { type: "image/png" });
    const { uri } = await client.uploads.createEphemeral({ file });
    const seen = [uri.split("/")[0]];
    for (const promptImage of [uri, uri, [{ uri: PICTURE, position: "first" }]])
      seen.push((await ended((await client.imageToVideo.create(wish("hello", { promptImage }))).id)).status);
    const words = { model: "gen4.5", promptText: "hello", ratio: "1280:720", duration: 5 };
    seen.push((await ended((await client.textToVideo.create(words)).id)).status);
    return seen;
  },

  async bad_fields() {
    const found = {};
    const bad = { ratio: "9:16", seed: null, duration: 11, model: "gen9", unheard_of: 1 };
    for (const [name, value] of Object.entries(bad))
      found[name] = await failure(() => client.imageToVideo.create(wish("bad", { [name]: value })));
    found.large_seed = await failure(() => client.imageToVideo.create(wish("bad", { seed: 4294967296 })));
    return found;
  },

  async ratios() {
    const found = {};
    for (const ratio of ["1280:720", "720:1280", "1104:832", "832:1104", "960:960", "1584:672"])
      found[ratio] = (await ended((await client.imageToVideo.create(wish("hello", { ratio }))).id)).output[0];
    return found;
  },

  async fails() {
    return failure(() => client.imageToVideo.create(wish("fail INVALID_IMAGE")).waitForTaskOutput());
  },

  async deletes() {
    const { id } = await client.imageToVideo.create(wish("hang"));
    await until(id, "RUNNING");
    const waiter = failure(() => client.tasks.retrieve(id).waitForTaskOutput());
    await client.tasks.delete(id);
    return [await failure(() => client.tasks.retrieve(id)), await waiter];
  },

  /** Somebody else cancels it by the gateway's own API. */
  async cancelled() {
    const { id } = await client.imageToVideo.create(wish("hang"));
    await fetch(`${BASE}/api/v1/videos/${id}`, { method: "DELETE" });
    return failure(() => client.tasks.retrieve(id).waitForTaskOutput());
  },

  async throttled() {
    const first = await client.imageToVideo.create(wish("slow 3"));
    const second = await client.imageToVideo.create(wish("hello"));
    const seen = (await client.tasks.retrieve(second.id)).status;
    return [seen, (await ended(first.id)).status, (await ended(second.id)).status];
  },

  async wrong_key() {
    return failure(() => client.tasks.retrieve("00000000-0000-4000-8000-000000000000"));
  },

  async submit() {
    return (await ended((await client.imageToVideo.create(wish(WORDS))).id)).status;
  },
};

console.log(JSON.stringify(await checks[process.argv[2]]()));

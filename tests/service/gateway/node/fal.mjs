// One check of @fal-ai/client at a time: `node fal.mjs CHECK` prints what was seen as JSON. URL, PICTURE and KEY are
// environment variables.

import { createFalClient, ApiError, ValidationError } from "@fal-ai/client";

const { URL: BASE, PICTURE, KEY = "anything", WEBHOOK } = process.env;
const WAN = "fal-ai/wan/v2.2-a14b/image-to-video";
const proxyUrl = { url: `${BASE}/fal/proxy`, when: "always" };
const fal = createFalClient({ credentials: KEY, proxyUrl });
const wish = (prompt, more = {}) => ({ prompt, image_url: PICTURE, ...more });

async function failure(work) {
  try {
    await work();
  } catch (error) {
    return {
      name: error.name,
      isApi: error instanceof ApiError,
      isValidation: error instanceof ValidationError,
      status: error.status,
      message: error.message,
      body: error.body,
      fields: error.fieldErrors?.map((each) => each.loc.at(-1)),
    };
  }
  return null;
}

async function until(state, id, endpoint = WAN) {
  for (;;) {
    const status = await fal.queue.status(endpoint, { requestId: id, logs: true });
    if (status.status === state) return status;
    if (status.status === "COMPLETED") throw new Error(`it ended before it was ${state}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function hanging() {
  const { request_id } = await fal.queue.submit(WAN, { input: wish("hang") });
  await until("IN_PROGRESS", request_id);
  return request_id;
}

const checks = {
  async run() {
    const { data, requestId } = await fal.run(WAN, { input: wish("run", { seed: 7 }) });
    return { data, requestId };
  },

  async subscribe() {
    const first = await hanging();
    const seen = [];
    const { data, requestId } = await fal.subscribe(WAN, {
      input: wish("slow 3"),
      logs: true,
      pollInterval: 100,
      onQueueUpdate: (update) => {
        if (!seen.length) fal.queue.cancel(WAN, { requestId: first });
        seen.push(update);
      },
    });
    return { states: [...new Set(seen.map((each) => each.status))], last: seen.at(-1), data, requestId };
  },

  async streaming() {
    const seen = [];
    const { data, requestId } = await fal.subscribe(WAN, {
      input: wish("slow 2"),
      mode: "streaming",
      logs: true,
      onQueueUpdate: (update) => seen.push(update.status),
    });
    return { states: [...new Set(seen)], data, requestId };
  },

  async short_paths() {
    const found = {};
    for (const endpoint of [`${WAN}/lora`, `${WAN}/turbo`]) {
      const { request_id } = await fal.queue.submit(endpoint, { input: wish(endpoint) });
      await until("COMPLETED", request_id, endpoint);
      const { data, requestId } = await fal.queue.result(endpoint, { requestId: request_id });
      found[endpoint] = data.prompt === endpoint && requestId === request_id;
    }
    return found;
  },

  async middleware() {
    const hosts = { "queue.fal.run": "queue", "fal.run": "run", "rest.fal.ai": "rest" };
    const direct = createFalClient({
      credentials: KEY,
      requestMiddleware: async (request) => {
        const url = new URL(request.url);
        return { ...request, url: `${BASE}/fal/${hosts[url.host]}${url.pathname}${url.search}` };
      },
    });
    const { data } = await direct.subscribe(WAN, { input: wish("middleware", { seed: 3 }) });
    return data;
  },

  async blob() {
    const bytes = Buffer.from(PICTURE.split(",")[1], "base64");
    const image_url = new File([bytes], "photo.png", { type: "image/png" });
    const { request_id } = await fal.queue.submit(WAN, { input: wish("look", { image_url }) });
    const status = await until("COMPLETED", request_id);
    return status.logs.map((line) => line.message).filter((text) => text.startsWith("image_base64"));
  },

  async multipart() {
    const bytes = new Uint8Array(91 * 1024 * 1024).fill(7);
    const url = await fal.storage.upload(new File([bytes], "large.bin"));
    const answer = await fetch(url, { method: "HEAD" });
    return { size: Number(answer.headers.get("content-length")) };
  },

  async bad_field() {
    return failure(() => fal.subscribe(WAN, { input: wish("bad", { num_frames: 900 }) }));
  },

  async job_failure() {
    return failure(() => fal.subscribe(WAN, { input: wish("fail EXECUTION_FAILED") }));
  },

  async cancel() {
    const first = await hanging();
    const { request_id } = await fal.queue.submit(WAN, { input: wish("queued") });
    await fal.queue.cancel(WAN, { requestId: request_id });
    const queued = await fal.queue.status(WAN, { requestId: request_id });
    await fal.queue.cancel(WAN, { requestId: first });
    const finished = await failure(() => fal.queue.cancel(WAN, { requestId: first }));
    return { queued: queued.status, finished };
  },

  async timeout() {
    const seen = [];
    const thrown = await failure(() =>
      fal.subscribe(WAN, { input: wish("hang js"), timeout: 3000, onEnqueue: (id) => seen.push(id) }),
    );
    const status = await until("COMPLETED", seen[0]);
    return { thrown: thrown !== null, error_type: status.error_type };
  },

  async wrong_key() {
    return failure(() => fal.queue.submit(WAN, { input: wish("x") }));
  },

  async headers() {
    const { request_id } = await fal.queue.submit(WAN, {
      input: wish("kept for a minute"),
      priority: "low",
      storageSettings: { expiresIn: 120 },
    });
    await until("COMPLETED", request_id);
    const { data } = await fal.queue.result(WAN, { requestId: request_id });
    return { url: data.video.url, now: Date.now() / 1000 };
  },

  async submit_expanded() {
    const input = wish(process.env.WORDS, { enable_prompt_expansion: true });
    const { data } = await fal.subscribe(WAN, { input });
    return data;
  },
};

console.log(JSON.stringify(await checks[process.argv[2]]()));

// One check of npm's replicate at a time: `node replicate.mjs CHECK` prints what was seen as JSON.

import Replicate, { parseProgressFromLogs, validateWebhook } from "replicate";

const { URL: BASE, PICTURE, KEY = "anything" } = process.env;
const FAST = "wan-video/wan-2.2-i2v-fast";
const options = { auth: KEY, baseUrl: `${BASE}/replicate/v1` };
const replicate = new Replicate(options);
const wish = (prompt, more = {}) => ({ prompt, image: PICTURE, ...more });
const bytes = () => Buffer.from(PICTURE.split(",")[1], "base64");
const looked = (prediction) => prediction.logs.split("\n").filter((line) => line.startsWith("image_base64"));

async function failure(work) {
  try {
    await work();
  } catch (error) {
    const response = error.response;
    return { message: error.message, status: response?.status };
  }
  return null;
}

async function running(id) {
  while ((await replicate.predictions.get(id)).status === "starting")
    await new Promise((resolve) => setTimeout(resolve, 100));
}

const checks = {
  async file() {
    const output = await replicate.run(FAST, { input: wish("file") });
    const blob = await output.blob();
    return { url: output.url().href, type: blob.type, head: Buffer.from(await blob.slice(4, 8).arrayBuffer()).toString() };
  },

  async slow() {
    return replicate.run(FAST, { input: wish("slow 3"), wait: { mode: "block", timeout: 1 } });
  },

  async waits() {
    const poll = await replicate.run(FAST, { input: wish("poll"), wait: { mode: "poll", interval: 100 } });
    const block = await replicate.run(FAST, { input: wish("block"), wait: { mode: "block", timeout: 30 } });
    return [poll, block];
  },

  async version() {
    const model = await replicate.models.get("wan-video", "wan-2.2-i2v-fast");
    const version = model.latest_version.id;
    const prediction = await replicate.predictions.create({ version, input: wish("by version") });
    const found = await replicate.models.versions.get("wan-video", "wan-2.2-i2v-fast", version);
    return { created: prediction.status, ended: (await replicate.wait(prediction)).status, same: found.id === version };
  },

  async predictions() {
    const prediction = await replicate.predictions.create({ model: FAST, input: wish("hang") });
    const page = await replicate.predictions.list();
    await running(prediction.id);
    const canceled = await replicate.predictions.cancel(prediction.id);
    const after = await replicate.predictions.get(prediction.id);
    return { first: page.results[0].id === prediction.id, canceled: canceled.status, after: after.status };
  },

  async abort() {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 1500);
    let id;
    const output = await failure(() =>
      replicate.run(
        FAST,
        { input: wish("hang"), wait: { mode: "poll" }, signal: controller.signal },
        (prediction) => (id = prediction.id),
      ),
    );
    if (output) await replicate.predictions.cancel(id);
    return { thrown: output, status: (await replicate.predictions.get(id)).status };
  },

  async inputs() {
    const seen = {};
    const unavailable = async (url, init) =>
      String(url).endsWith("/files") ? new Response("", { status: 503 }) : fetch(url, init);
    const kinds = {
      blob: [replicate, new Blob([bytes()], { type: "image/png" })],
      buffer: [replicate, bytes()],
      fallback: [new Replicate({ ...options, fetch: unavailable }), new Blob([bytes()], { type: "image/png" })],
    };
    for (const [kind, [client, image]] of Object.entries(kinds)) {
      const created = await client.predictions.create({ model: FAST, input: wish("look", { image }) });
      const prediction = await replicate.wait(created);
      seen[kind] = [looked(prediction), prediction.input.image.split(/[:,]/)[0]];
    }
    return seen;
  },

  async token_as_input() {
    const client = new Replicate({ ...options, auth: "r8_secret-token", fileEncodingStrategy: "data-uri" });
    return failure(() => client.run(FAST, { input: wish("x", { image: new Blob([bytes()]) }) }));
  },

  async bad_field() {
    return failure(() => replicate.run(FAST, { input: wish("bad", { num_frames: 900 }) }));
  },

  async job_failure() {
    return failure(() => replicate.run(FAST, { input: wish("fail NO_OUTPUT") }));
  },

  async progress() {
    const seen = [];
    await replicate.run(FAST, { input: wish("slow 4"), wait: { mode: "poll", interval: 100 } }, (prediction) => {
      const progress = parseProgressFromLogs(prediction);
      seen.push([prediction.status, progress && [progress.percentage, progress.current, progress.total]]);
    });
    return seen;
  },

  async stream() {
    const events = [];
    for await (const event of replicate.stream(FAST, { input: wish("slow 1") })) events.push([event.event, event.data]);
    return events;
  },

  async storm() {
    const first = await failure(() => replicate.predictions.create({ model: FAST, input: wish("the one") }));
    const second = await failure(() => replicate.predictions.create({ model: FAST, input: wish("one too many") }));
    return { first, second, number: (await replicate.predictions.list()).results.length };
  },

  async webhook() {
    const { headers, body } = JSON.parse(process.env.CALL);
    const { key } = await replicate.webhooks.default.secret.get();
    const valid = await validateWebhook({ headers, body }, key);
    return { valid, tampered: await validateWebhook({ headers, body: `${body} ` }, key) };
  },

  async optimized() {
    const input = { prompt: process.env.WORDS, optimize_prompt: true };
    return replicate.run("wan-video/wan-2.2-t2v-fast", { input });
  },
};

console.log(JSON.stringify(await checks[process.argv[2]]()));

// One check of npm's openai at a time: `node openai.mjs CHECK` prints what was seen as JSON. URL, PICTURE and KEY are
// environment variables.

import OpenAI, { APIError, AuthenticationError, BadRequestError, NotFoundError } from "openai";

const { URL: BASE, PICTURE, KEY = "anything", WORDS } = process.env;
const client = new OpenAI({ apiKey: KEY, baseURL: `${BASE}/openai/v1` });
const photo = () => new File([Buffer.from(PICTURE.split(",")[1], "base64")], "photo.png", { type: "image/png" });
const create = (prompt, more = {}) => client.videos.create({ prompt, input_reference: photo(), ...more });

async function failure(work) {
  try {
    await work();
  } catch (error) {
    return {
      isApi: error instanceof APIError,
      isAuthentication: error instanceof AuthenticationError,
      isBadRequest: error instanceof BadRequestError,
      isNotFound: error instanceof NotFoundError,
      status: error.status,
      param: error.param,
      code: error.code,
      type: error.type,
      hasRequestId: /^[0-9a-f-]{36}$/.test(error.requestID ?? ""),
    };
  }
  return null;
}

async function ended(id, seen = []) {
  for (;;) {
    const { data, response } = await client.videos.retrieve(id).withResponse();
    seen.push(data.progress);
    if (["completed", "failed"].includes(data.status)) return data;
    await new Promise((resolve) => setTimeout(resolve, Number(response.headers.get("openai-poll-after-ms")) / 4));
  }
}

async function content(id, variant) {
  const answer = await client.videos.downloadContent(id, variant ? { variant } : {});
  const bytes = Buffer.from(await answer.arrayBuffer());
  return { type: answer.headers.get("content-type"), head: bytes.subarray(0, 12).toString("latin1") };
}

const checks = {
  async file() {
    const video = await create("slow 2", { model: "sora-2", seconds: "4", size: "1280x720", quality: "high" });
    const seen = [];
    const last = await ended(video.id, seen);
    return { first: video, seen, last, content: await content(video.id), thumbnail: await content(video.id, "thumbnail") };
  },

  async address() {
    const video = await create("look", { input_reference: { image_url: PICTURE } });
    return (await ended(video.id)).status;
  },

  async words() {
    return (await ended((await client.videos.create({ prompt: "hello" })).id)).status;
  },

  async pages() {
    for (let n = 0; n < 3; n++) await create(`page ${n}`);
    const page = await client.videos.list({ limit: 2 });
    const ids = [];
    for await (const video of client.videos.list({ limit: 2 })) {
      ids.push(video.id);
      if (ids.length === 3) break;
    }
    return { first: page.data.map((video) => video.id), ids, hasMore: page.has_more };
  },

  async deletes() {
    const { id } = await create("hello");
    await ended(id);
    const { deleted } = await client.videos.delete(id);
    return { deleted, after: await failure(() => client.videos.retrieve(id)) };
  },

  async remix() {
    const { id } = await create("first");
    await ended(id);
    const again = await client.videos.remix(id, { prompt: "second" });
    return { of: again.remixed_from_video_id === id, prompt: again.prompt, status: (await ended(again.id)).status };
  },

  async bad_fields() {
    return {
      size: await failure(() => create("bad", { size: "9:16" })),
      seconds: await failure(() => create("bad", { seconds: "99" })),
      model: await failure(() => create("bad", { model: "unknown" })),
      prompt: await failure(() => create("")),
    };
  },

  async job_failure() {
    return ended((await create("fail OUT_OF_MEMORY")).id);
  },

  async wrong_key() {
    return failure(() => client.videos.list());
  },

  async submit() {
    return (await ended((await create(WORDS)).id)).status;
  },
};

console.log(JSON.stringify(await checks[process.argv[2]]()));

// runpod-sdk: `node runpod.mjs CHECK` prints what was seen as JSON. URL and KEY are environment variables; CALLS are
// [[method, ...arguments], …], where "$id" in an argument is the id that the last answer had.

import runpodSdk from "runpod-sdk";

const { URL: BASE, KEY = "anything", CALLS = "[]" } = process.env;
const endpoint = runpodSdk(KEY, { baseUrl: `${BASE}/runpod/v2` }).endpoint("ep");
const print = console.log;
let polls = 0;
console.log = () => polls++; // the SDK prints a line for each answer of status-sync

async function chunksOf(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const checks = {
  /** What each call gave, or threw, and then how often status-sync was asked. */
  async calls() {
    const told = [];
    let id;
    for (const [method, ...values] of JSON.parse(CALLS)) {
      const filled = values.map((value) => (value === "$id" ? id : value));
      try {
        const answer = endpoint[method](...filled);
        told.push(method === "stream" ? await chunksOf(answer) : await answer);
        id = told.at(-1).id ?? id;
      } catch (error) {
        told.push({ thrown: error.message, status: error.response?.status, data: error.response?.data });
      }
    }
    return [...told, polls];
  },
};

print(JSON.stringify(await checks[process.argv[2]]()));
process.exit(); // the SDK leaves a timer behind for a call that failed, as long as its timeout

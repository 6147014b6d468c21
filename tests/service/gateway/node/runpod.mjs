// One of runpod-sdk's calls after another: argv holds the base URL, the key, the endpoint and the calls as JSON,
// [[method, ...arguments], …]. "$id" in an argument is the id that the last answer had. Prints what each gave.
import { createRequire } from "node:module"
import { pathToFileURL } from "node:url"

const require = createRequire(process.env.NODE_PACKAGES + "/package.json")
const { default: runpodSdk } = await import(pathToFileURL(require.resolve("runpod-sdk")))
const [baseUrl, key, name, calls] = process.argv.slice(2)
const endpoint = runpodSdk(key, { baseUrl }).endpoint(name)
const told = []
let id
let polls = 0 // the SDK prints a line for each answer of status-sync
const print = console.log
console.log = () => polls++
for (const [method, ...values] of JSON.parse(calls)) {
  const filled = values.map((value) => (value === "$id" ? id : value))
  try {
    let answer = endpoint[method](...filled)
    if (method === "stream") {
      const chunks = []
      for await (const chunk of answer) chunks.push(chunk)
      answer = chunks
    }
    answer = await answer
    id = answer.id ?? id
    told.push(answer)
  } catch (error) {
    told.push({ thrown: error.message, status: error.response?.status, data: error.response?.data })
  }
}
print("TOLD " + JSON.stringify([...told, polls]))

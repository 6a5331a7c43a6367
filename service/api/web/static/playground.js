// The form: sends sentences to /embed and /tokenize and shows the answers in the three cards.
import { Failure, clear, failureOf, reach, tell } from "./failures.js";
import { drawHeatMap } from "./heatmap.js";
import { drawTokens } from "./tokens.js";
import { describe, watchServer } from "./status.js";
import { drawTiming } from "./timing.js";

const MAX_SENTENCES = 40;
const element = (id) => document.getElementById(id);
const RESULTS = ["heat", "pair", "bar", "timing", "tokens"];
let running = null, described = false;

async function ask(path, body, signal) {
  const headers = body ? { "content-type": "application/json" } : {};
  if (element("key").value) headers.authorization = `Bearer ${element("key").value}`;
  const method = body ? "POST" : "GET";
  const request = { method, body: body && JSON.stringify(body), headers, signal };
  const response = await reach(fetch(path, request));
  if (response.ok) return response;
  if (response.status === 401) {
    element("key-row").hidden = false;
    element("key").focus();
  }
  throw await reach(failureOf(response));
}

function readSentences() {
  const lines = element("sentences").value.split("\n").map((line) => line.trim());
  const sentences = lines.filter((line) => line);
  if (!sentences.length) throw new Failure("input", "Nothing to compare.", "Type at least one sentence.");
  if (sentences.length > MAX_SENTENCES) {
    throw new Failure("input", "Too many.", `${sentences.length} sentences; at most ${MAX_SENTENCES} are compared.`);
  }
  return sentences;
}

async function learn(signal) {
  const info = await reach((await ask("info", undefined, signal)).json());
  describe(element, info);
  for (const width of info.dimensions) element("dimensions").add(new Option(width, width));
  described = true;
}

async function compare() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const button = document.querySelector("button");
  clear(element("error"));
  button.disabled = true;
  try {
    const inputs = readSentences();
    if (!described) await learn(signal);
    const dimensions = Number(element("dimensions").value) || undefined;
    const began = performance.now();
    const response = await ask("embed", { inputs, dimensions, encoding_format: "bytes" }, signal);
    const values = new Float32Array(await reach(response.arrayBuffer()));
    const elapsed = performance.now() - began;
    const tokens = await reach((await ask("tokenize", { inputs }, signal)).json());
    const width = values.length / inputs.length;
    const vectors = inputs.map((_, row) => values.subarray(row * width, (row + 1) * width));
    drawHeatMap(element("heat"), element("pair"), inputs, vectors);
    drawTiming(element("bar"), element("timing"), response.headers, elapsed, inputs.length);
    drawTokens(element("tokens"), inputs, tokens);
  } catch (error) {
    if (signal.aborted) return; // a later comparison shows its own result
    for (const name of RESULTS) element(name).replaceChildren(); // results of earlier sentences
    tell(element("error"), error);
  } finally {
    if (!signal.aborted) button.disabled = false;
  }
}

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  compare();
});
element("sentences").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) compare();
});
element("dimensions").addEventListener("change", compare);

watchServer(element);
await compare();

// The form: sends sentences to /embed and /tokenize and shows the answers in the cards of each model.
import { Failure, clear, failureOf, reach, tell } from "./failures.js";
import { cosine, drawHeatMap } from "./heatmap.js";
import { SIDES, arrange, learnModels } from "./models.js";
import { drawTokens } from "./tokens.js";
import { watchServer } from "./status.js";
import { drawTiming } from "./timing.js";

const MAX_SENTENCES = 40;
const element = (id) => document.getElementById(id);
const RESULTS = ["heat", "pair", "bar", "timing", "tokens"];
let running = null;

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

// What one model answers: vectors and tokens of the sentences, and how long it took.
async function run({ side, info, dimensions }, inputs, signal) {
  const model = info.model_id, began = performance.now();
  const body = { inputs, model, dimensions, encoding_format: "bytes" };
  const response = await ask("embed", body, signal);
  const values = new Float32Array(await reach(response.arrayBuffer()));
  const elapsed = performance.now() - began;
  const tokens = await reach((await ask("tokenize", { inputs, model }, signal)).json());
  const width = values.length / inputs.length;
  const vectors = inputs.map((_, row) => values.subarray(row * width, (row + 1) * width));
  return { side, model, vectors, tokens, elapsed, headers: response.headers };
}

function draw(inputs, { side, model, vectors, tokens, elapsed, headers }) {
  const part = (name) => element(name + side);
  drawHeatMap(part("heat"), part("pair"), inputs, vectors, model);
  drawTiming(part("bar"), part("timing"), headers, elapsed, inputs.length);
  drawTokens(part("tokens"), inputs, tokens);
}

// The pair of sentences about which two models disagree most.
function contrast(inputs, [one, other]) {
  let most = { gap: -1 };
  for (let row = 0; other && row < inputs.length; row++) {
    for (let column = row + 1; column < inputs.length; column++) {
      const pair = [one, other].map(({ vectors }) => cosine(vectors[row], vectors[column]));
      const gap = Math.abs(pair[0] - pair[1]);
      if (gap > most.gap) most = { gap, row, column, pair };
    }
  }
  if (most.gap < 0) return "";
  const [first, second] = most.pair.map((value) => value.toFixed(2));
  return `They differ most on “${inputs[most.row]}” and “${inputs[most.column]}”: `
    + `${first} with ${one.model}, ${second} with ${other.model}.`;
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
    const read = async (path) => reach((await ask(path, undefined, signal)).json());
    const chosen = await learnModels(element, read);
    const found = [];
    for (const each of chosen) found.push(await run(each, inputs, signal)); // one at a time: they share a device
    arrange(element, chosen);
    for (const each of found) draw(inputs, each);
    element("contrast").textContent = contrast(inputs, found);
  } catch (error) {
    if (signal.aborted) return; // a later comparison shows its own result
    for (const name of RESULTS) { // results of earlier sentences
      for (const side of SIDES) element(name + side).replaceChildren();
    }
    element("contrast").textContent = "";
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
for (const name of ["chosen", "dimensions"]) {
  for (const side of SIDES) element(name + side).addEventListener("change", compare);
}

watchServer(element);
await compare();

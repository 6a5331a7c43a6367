// Which model is shown, and which beside it: their selects, their facts, the cards of the second.
import { describe } from "./status.js";

export const SIDES = ["", "-2"]; // endings of the ids of each model's parts
const known = new Map(); // facts by name of model

// Facts of the chosen models, asked for once each; `read` returns the JSON of a path.
export async function learnModels(element, read) {
  if (!known.size) {
    const info = await read("info");
    if (info.models.length > 1) await offer(element, read);
    else element("chosen").replaceChildren(new Option(info.model_id));
    known.set(info.model_id, info);
  }
  const chosen = [];
  for (const side of SIDES) {
    const name = element(`chosen${side}`).value;
    if (!name) continue;
    if (!known.has(name)) known.set(name, await read(`info?model=${encodeURIComponent(name)}`));
    const info = known.get(name), widths = element(`dimensions${side}`);
    if (widths.dataset.model !== name) fill(widths, info);
    chosen.push({ side, info, dimensions: Number(widths.value) || undefined });
  }
  return chosen;
}

async function offer(element, read) {
  const { data } = await read("v1/models");
  const names = data.filter((model) => model.kind === "embedding").map((model) => model.id);
  element("chosen").replaceChildren(...names.map((name) => new Option(name)));
  element("chosen-2").append(...names.map((name) => new Option(name)));
  element("models-row").hidden = names.length < 2;
}

function fill(widths, info) {
  widths.dataset.model = info.model_id;
  widths.replaceChildren(...info.dimensions.map((width) => new Option(width, width)));
}

// Shows the parts of as many models as are chosen, with their names.
export function arrange(element, chosen) {
  const two = chosen.length > 1;
  element("cards").toggleAttribute("data-two", two);
  for (const part of document.querySelectorAll("[data-second]")) part.hidden = !two;
  element("model").textContent = chosen.map(({ info }) => info.model_id).join(" beside ");
  chosen.forEach(({ info, side }) => {
    for (const title of document.querySelectorAll(`[data-name="${side}"]`)) {
      title.textContent = two ? info.model_id : "";
    }
    describe(element(`facts${side}`), info);
  });
  const reasons = chosen.map(({ info }) => info.batch_invariant_reason ?? "");
  element("bits").textContent = [...new Set(reasons)].join(" ").trim();
}

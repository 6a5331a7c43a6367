// Times of a request's stages, by the server's x-* headers [ms], and its numbers of tokens and characters.
const STAGES = [
  ["tokenization", "text", "reading, tokenising"],
  ["queue", "queue", "waiting"],
  ["inference", "engine", "computing"],
];

export function drawTiming(bar, figures, headers, elapsed, count) {
  const read = (name) => Number(headers.get(`x-${name}`) ?? 0);
  const total = read("total-time");
  const stages = STAGES.map(([name, style, label]) => ({ style, label, value: read(`${name}-time`) }));
  const known = stages.reduce((sum, stage) => sum + stage.value, 0);
  stages.push({ style: "rest", label: "other", value: Math.max(0, total - known) });
  bar.replaceChildren(...stages.map((stage) => {
    const part = document.createElement("i");
    part.className = stage.style;
    part.style.setProperty("--part", stage.value);
    return part;
  }));
  const entries = stages.map((stage) => figure(stage.label, `${stage.value}`, "ms", stage.style));
  entries.push(
    figure("server, total", `${total}`, "ms"),
    figure("measured here", elapsed.toFixed(0), "ms"),
    figure("sentences", `${count}`),
    figure("tokens", `${read("compute-tokens")}`),
    figure("characters", `${read("compute-characters")}`),
    figure("tokens truncated", `${read("truncated-tokens")}`),
  );
  figures.replaceChildren(...entries);
}

export function figure(label, value, unit = "", style = "") {
  const entry = document.createElement("div");
  const term = document.createElement("dt");
  const detail = document.createElement("dd");
  if (style) {
    const swatch = document.createElement("span");
    swatch.className = `swatch ${style}`;
    term.append(swatch);
  }
  term.append(label);
  detail.textContent = value;
  if (unit) {
    const small = document.createElement("small");
    small.textContent = ` ${unit}`;
    detail.append(small);
  }
  entry.append(term, detail);
  return entry;
}

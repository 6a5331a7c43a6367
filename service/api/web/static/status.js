// The server's state, from /readyz and /metrics, while the page is visible.
import { growth, parse, quantile, sum } from "./exposition.js";
import { figure } from "./timing.js";

const EVERY_MS = 2000;
const READINGS = 31; // a minute

export function watchServer(element) {
  const history = [];
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const [ready, metrics] = await Promise.all([fetch("readyz"), fetch("metrics")]);
      const state = await ready.json();
      pill(element("ready"), ready.ok ? "ok" : "bad", ready.ok ? "ready" : state.status);
      history.push({ at: performance.now(), samples: parse(await metrics.text()) });
      history.splice(0, history.length - READINGS);
      draw(element, history[0], history.at(-1));
    } catch {
      pill(element("ready"), "bad", "no answer");
      history.length = 0;
      element("status").replaceChildren(); // old figures would look current
      element("window").textContent = "";
    }
  };
  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
  refresh();
}

function pill(place, state, text) {
  place.dataset.state = state;
  if (place.textContent !== text) place.textContent = text; // so that screen readers announce changes only
}

function draw(element, first, last) {
  const seconds = (last.at - first.at) / 1000;
  const now = (name) => sum(last.samples, name);
  const rate = (name) => {
    const grown = growth(first.samples, last.samples, name);
    return grown === undefined || !seconds ? undefined : grown / seconds;
  };
  const latency = (share) => quantile(first.samples, last.samples, "te_request_duration", share);
  const started = new Map();
  const always = (share) => latency(share) ?? quantile(started, last.samples, "te_request_duration", share);
  const hits = now("osa_cache_hits_total");
  const texts = [rate("te_embed_success"), rate("te_predict_success")].filter((one) => one !== undefined);
  const entries = [
    figure("requests", short(rate("te_request_count")), "/s"),
    figure("texts", short(texts.length ? texts.reduce((one, other) => one + other) : undefined), "/s"),
    figure("tokens", short(rate("osa_computed_tokens_total") ?? rate("te_batch_next_tokens_sum")), "/s"),
    figure("engine tokens/s", short(now("osa_tokens_per_second"))),
    figure("p50, half are faster", milliseconds(always(0.5)), "ms"),
    figure("p99, 1 % are slower", milliseconds(always(0.99)), "ms"),
    figure("queue", short(now("te_queue_size")), `texts, ${short(now("osa_queued_tokens"))} tokens`),
    figure("backlog", short(now("osa_backlog_seconds")), "s"),
    figure("in flight", short(now("osa_in_flight_requests"))),
    figure("failures", short(now("te_request_failure"))),
  ];
  if (now("osa_engine_restarts_total") !== undefined) {
    entries.push(figure("engine restarts", short(now("osa_engine_restarts_total"))));
  }
  if (hits) {
    const share = hits / (hits + (now("osa_cache_misses_total") ?? 0));
    entries.push(figure("cache hits", (100 * share).toFixed(0), "%"));
  }
  element("status").replaceChildren(...entries);
  element("window").textContent = seconds ? `rates over ${seconds.toFixed(0)} s` : "";
}

export function describe(place, info) {
  const facts = {
    ...(info.models.length > 1 && { name: info.model_id }),
    engine: `${info.backend}, ${info.kernel}, ${info.device}, ${info.model_dtype}`,
    "longest input": `${info.max_input_length.toLocaleString("en")} tokens`,
    dimensions: info.dimensions.join(", "),
    "same bits in any batch": info.batch_invariant ? "yes" : "no, see below",
    version: info.version,
    model: info.model_sha.slice(0, 12),
  };
  place.replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const entry = document.createElement("div");
    const term = document.createElement("dt");
    const detail = document.createElement("dd");
    term.textContent = name;
    detail.textContent = value;
    entry.append(term, detail);
    return entry;
  }));
}

function short(value) {
  if (value === undefined) return "–";
  if (value >= 10000) return `${(value / 1000).toFixed(0)}k`;
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(2);
}

function milliseconds(seconds) {
  return seconds === undefined ? "–" : short(1000 * seconds);
}

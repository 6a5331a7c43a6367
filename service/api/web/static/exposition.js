// Parses Prometheus' text format, and computes growth and quantiles between two scrapes.
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const [, name, labels = "", value] = match;
    const number = value === "+Inf" ? Infinity : Number(value);
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ bound: /\ble="([^"]*)"/.exec(labels)?.[1], value: number });
  }
  return samples;
}

export function sum(samples, name) {
  return samples.get(name)?.reduce((total, sample) => total + sample.value, 0);
}

export function growth(before, after, name) {
  const now = sum(after, name);
  return now === undefined ? undefined : Math.max(0, now - (sum(before, name) ?? 0));
}

// As PromQL's histogram_quantile: linear interpolation within the bucket of the rank.
export function quantile(before, after, name, share) {
  const buckets = (samples) => new Map(
    (samples.get(`${name}_bucket`) ?? []).map((sample) => [sample.bound, sample.value]),
  );
  const old = buckets(before);
  const counts = [...buckets(after)]
    .map(([bound, value]) => [bound === "+Inf" ? Infinity : Number(bound), value - (old.get(bound) ?? 0)])
    .sort((one, other) => one[0] - other[0]);
  const total = counts.at(-1)?.[1] ?? 0;
  if (total <= 0) return undefined;
  const rank = share * total;
  let lower = 0, below = 0;
  for (const [bound, count] of counts) {
    if (count >= rank && count > below) {
      if (bound === Infinity) return lower;
      return lower + (bound - lower) * (rank - below) / (count - below);
    }
    [lower, below] = [bound, count];
  }
  return lower;
}

// Curves from reports.

/** Exponential moving average with its start-up bias corrected; null where a value is missing. */
export function smoothed(values, decay = 0.8) {
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    if (value == null) return null;
    sum = decay * sum + (1 - decay) * value;
    weight = decay * weight + (1 - decay);
    return sum / weight;
  });
}

/** Weighted mean of one figure ("mean", "spread") over rewards; null when none has it. */
export function weighted(rewards, weights, figure) {
  let sum = 0;
  let total = 0;
  for (const [name, stats] of Object.entries(rewards)) {
    const weight = weights?.[name] ?? 1;
    if (stats[figure] == null || !(weight > 0)) continue;
    sum += weight * stats[figure];
    total += weight;
  }
  return total ? sum / total : null;
}

/** All held-out evaluations in order: [{iteration, rewards}], one per iteration. */
export function evaluations(reports) {
  const found = new Map();
  for (const report of reports) for (const made of report.evaluations) found.set(made.iteration, made);
  return [...found.values()].sort((a, b) => a.iteration - b.iteration);
}

export function mean(values) {
  const known = values.filter((value) => value != null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

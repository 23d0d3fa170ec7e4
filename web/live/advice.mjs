// Six signs of health, each with a light and, when it is not green, a sentence of advice.

import { evaluations, mean, smoothed, weighted } from "./smoothing.mjs";
import { percent, short } from "./format.mjs";

const RECENT = 10;
const FAR = 0.1; // of the velocity: an iteration that moves a model so far may break it

/** [{name, value, light: "good" | "watch" | "bad" | "none", advice, about}] */
export function signs(reports, weights) {
  return [move(reports), clip(reports), kl(reports), ratio(reports), flat(reports), heldOut(reports, weights)];
}

/** What the guards said of the newest held-out images and of the newest iteration, the gravest first. */
export function alarms(reports) {
  const evaluated = reports.filter((report) => report.evaluations.length).pop();
  const told = new Set([...(evaluated?.warnings ?? []), ...(reports.at(-1)?.warnings ?? [])]);
  return [...told].sort((a, b) => (b.level === "stop") - (a.level === "stop"));
}

function sign(name, about, value, light = "good", advice = "") {
  return { name, about, value, light, advice };
}

function recent(reports, figure, count = RECENT) {
  return reports.slice(-count).map(figure);
}

/** Every run of the demo model that broke stood above 10 %; none that stayed below 8 % did. */
function move(reports) {
  const about = "How far the last iteration moved the model, as a share of its velocity, and how far the trainer wanted it to move where it sets its own step.";
  const { move: now, move_target: target, rate } = reports[reports.length - 1]?.update ?? {};
  if (now == null) return sign("move", about, "–", "none");
  const value = target == null ? fine(now) : `${fine(now)} of ${fine(target)}`;
  const most = Math.max(...recent(reports, ({ update }) => update.move ?? 0, 3));
  if (now <= FAR && most <= 2 * FAR) return sign("move", about, value);
  const mend = rate == null
    ? "lower the learning rate, or let the trainer set it (step_size in Trainer Settings)."
    : `the trainer is already lowering the learning rate (${short(rate)}); more images per iteration make its step surer.`;
  const words = `An iteration moves the model by ${percent(Math.max(now, most))} of its velocity, where images soon break: ${mend}`;
  return sign("move", about, value, most > 2 * FAR ? "bad" : "watch", words);
}

/** A small share: 4.9 %. */
const fine = (share) => `${(share * 100).toFixed(1)} %`;

function clip(reports) {
  const about = "Share of images whose probability changed by more than the clip range allows, last 10 iterations.";
  const found = mean(recent(reports, ({ update }) => (update.clip_low == null ? null : update.clip_low + update.clip_high)));
  if (found == null) return sign("clipped", about, "–", "none");
  if (found > 0.5) {
    return sign("clipped", about, percent(found), "bad",
      "More than half of the images hit the clip range, so the steps are too large: lower the learning rate or make fewer updates per iteration.");
  }
  if (found > 0.3) {
    return sign("clipped", about, percent(found), "watch",
      "Many images hit the clip range. If the reward stalls, lower the learning rate.");
  }
  return sign("clipped", about, percent(found));
}

function kl(reports) {
  const about = "Distance from the base model (KL), last 10 iterations; measured when the objective has a KL weight.";
  const values = reports.map(({ update }) => update.kl);
  const now = mean(values.slice(-RECENT));
  if (now == null) return sign("KL", about, "off", "none");
  const before = mean(values.slice(-2 * RECENT, -RECENT));
  const growth = reports.length >= 3 * RECENT && before > 0 ? now / before : 1;
  if (growth > 4) {
    return sign("KL", about, short(now, 3), "bad",
      "The model runs away from the base model: lower the learning rate or raise the KL weight, and look at the samples.");
  }
  if (growth > 2) {
    return sign("KL", about, short(now, 3), "watch",
      "The distance from the base model doubled within 10 iterations: look at the samples, images may lose variety.");
  }
  return sign("KL", about, short(now, 3));
}

function ratio(reports) {
  const about = "Largest change of an image's probability: at the first update (rounding only, near 0), and in all.";
  const last = recent(reports, ({ update }) => update, RECENT);
  const first = Math.max(...last.map((update) => update.ratio_first ?? -1));
  const largest = Math.max(...last.map((update) => update.ratio_max ?? -1));
  if (!last.length || first < 0) return sign("ratio", about, "–", "none");
  const value = `${short(first)} → ${short(largest)}`;
  if (first > 1e-3) {
    return sign("ratio", about, value, "bad",
      "The first update already sees other probabilities than the sampling did: use a higher precision, or equal batch sizes for sampling and updates.");
  }
  if (last.filter((update) => update.recomputed).length > last.length / 2) {
    return sign("ratio", about, value, "watch",
      "Rounding between sampling and updates exceeds a tenth of the clip range; probabilities are computed again each time, which is right but slower. Equal batch sizes avoid it.");
  }
  if (reports.length >= RECENT && largest < 1e-7) {
    return sign("ratio", about, value, "watch", "The model hardly moves: raise the learning rate.");
  }
  return sign("ratio", about, value);
}

function flat(reports) {
  const about = "Share of prompts whose images all got the same score and so teach nothing, last 10 iterations.";
  const found = mean(recent(reports, (report) => report.flat_groups));
  if (found == null) return sign("flat groups", about, "–", "none");
  const words = "of the prompts give images that all score alike and teach nothing: use more images per prompt, a stronger eta, harder prompts or a finer reward.";
  if (found > 0.5) return sign("flat groups", about, percent(found), "bad", `More than half ${words}`);
  if (found > 0.25) return sign("flat groups", about, percent(found), "watch", `More than a quarter ${words}`);
  return sign("flat groups", about, percent(found));
}

function heldOut(reports, weights) {
  const about = "Reward on prompts that are never trained on, against where it was at the beginning.";
  const found = evaluations(reports).map((made) => ({
    iteration: made.iteration,
    mean: weighted(made.rewards, weights, "mean"),
    error: standardError(made.rewards, weights),
  })).filter((made) => made.mean != null);
  if (!found.length) return sign("held-out", about, "off", "none");
  const now = found[found.length - 1];
  if (found.length === 1) return sign("held-out", about, short(now.mean));
  const gain = now.mean - found[0].mean;
  const value = `${gain < 0 ? "−" : "+"}${short(Math.abs(gain))}`;
  const best = found.reduce((a, b) => (b.mean > a.mean ? b : a));
  const after = found.filter((made) => made.iteration > best.iteration);
  const fallen = best.mean - now.mean > 2 * now.error && after.length >= 2;
  if (!fallen) return sign("held-out", about, value);
  const curve = smoothed(reports.map((report) => weighted(report.rewards, weights, "mean")));
  const then = curve[reports.findIndex((report) => report.iteration >= best.iteration)];
  const rises = curve[curve.length - 1] > then;
  if (rises) {
    return sign("held-out", about, value, "bad",
      `The training reward rises but the held-out reward falls since iteration ${best.iteration}: the model has begun to trick the reward. Stop, and use the LoRA named "best".`);
  }
  return sign("held-out", about, value, "watch",
    `The held-out reward falls since iteration ${best.iteration}: lower the learning rate, or stop and use the LoRA named "best".`);
}

/** Standard error of the weighted held-out mean. */
function standardError(rewards, weights) {
  let sum = 0;
  let total = 0;
  for (const [name, { spread, valid }] of Object.entries(rewards)) {
    const weight = weights?.[name] ?? 1;
    if (!(weight > 0) || spread == null || !valid) continue;
    sum += weight * weight * spread * spread / valid;
    total += weight;
  }
  return total ? Math.sqrt(sum) / total : 0;
}

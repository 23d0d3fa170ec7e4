// Signs of health, each with a number, and a light and words that the server found (mixgrpo doctor says the same).

import { evaluations, mean, weighted } from "./smoothing.mjs";
import { percent, short } from "./format.mjs";

const RECENT = 10;

/** Which findings of the server a sign is lit by. */
const FINDINGS = {
  "move": ["movement", "step size"],
  "clipped": ["step size"],
  "KL": ["KL"],
  "ratio": ["precision"],
  "flat groups": ["flat groups"],
  "held-out": ["held-out"],
};

/** [{name, value, light: "good" | "watch" | "bad" | "none", advice, about}] */
export function signs(reports, weights, findings = []) {
  const made = [move(reports), clip(reports), kl(reports), ratio(reports), flat(reports), heldOut(reports, weights)];
  return made.map((sign) => {
    const found = findings.filter(({ sign: name }) => FINDINGS[sign.name].includes(name));
    const worst = found.reduce((a, b) => (b.gravity > (a?.gravity ?? -1) ? b : a), null);
    const light = worst && sign.known ? worst.light : "none";
    return { ...sign, light, advice: light === "bad" || light === "watch" ? worst.words : "" };
  });
}

/** What the guards said of the newest held-out images and of the newest iteration, the gravest first. */
export function alarms(reports) {
  const evaluated = reports.filter((report) => report.evaluations.length).pop();
  const told = new Set([...(evaluated?.warnings ?? []), ...(reports.at(-1)?.warnings ?? [])]);
  return [...told].sort((a, b) => (b.level === "stop") - (a.level === "stop"));
}

function sign(name, about, value, known = true) {
  return { name, about, value, known };
}

function recent(reports, figure, count = RECENT) {
  return reports.slice(-count).map(figure);
}

function move(reports) {
  const about = "How far the last iteration moved the model, as a share of its velocity, and how far the trainer wanted it to move where it sets its own step.";
  const { move: now, move_target: target } = reports[reports.length - 1]?.update ?? {};
  if (now == null) return sign("move", about, "–", false);
  return sign("move", about, target == null ? fine(now) : `${fine(now)} of ${fine(target)}`);
}

/** A small share: 4.9 %. */
const fine = (share) => `${(share * 100).toFixed(1)} %`;

function clip(reports) {
  const about = "Share of images whose probability changed by more than the clip range allows, last 10 iterations.";
  const found = mean(recent(reports, ({ update }) => (update.clip_low == null ? null : update.clip_low + update.clip_high)));
  return found == null ? sign("clipped", about, "–", false) : sign("clipped", about, percent(found));
}

function kl(reports) {
  const about = "Distance from the base model (KL), last 10 iterations; measured when the objective has a KL weight.";
  const now = mean(recent(reports, ({ update }) => update.kl));
  return now == null ? sign("KL", about, "off", false) : sign("KL", about, short(now, 3));
}

function ratio(reports) {
  const about = "Largest change of an image's probability: at the first update (rounding only, near 0), and in all.";
  const last = recent(reports, ({ update }) => update);
  const first = Math.max(...last.map((update) => update.ratio_first ?? -1));
  const largest = Math.max(...last.map((update) => update.ratio_max ?? -1));
  if (!last.length || first < 0) return sign("ratio", about, "–", false);
  return sign("ratio", about, `${short(first)} → ${short(largest)}`);
}

function flat(reports) {
  const about = "Share of prompts whose images all got the same score and so teach nothing, last 10 iterations.";
  const found = mean(recent(reports, (report) => report.flat_groups));
  return found == null ? sign("flat groups", about, "–", false) : sign("flat groups", about, percent(found));
}

function heldOut(reports, weights) {
  const about = "Reward on prompts that are never trained on, against where it was at the beginning.";
  const found = evaluations(reports).map(({ rewards }) => weighted(rewards, weights, "mean")).filter((made) => made != null);
  if (!found.length) return sign("held-out", about, "off", false);
  const gain = found[found.length - 1] - found[0];
  return sign("held-out", about, found.length === 1 ? short(found[0]) : `${gain < 0 ? "−" : "+"}${short(Math.abs(gain))}`);
}

// The only place that hears the server: events of training runs, and the requests that bring them back after a reload.

import { api } from "../../scripts/api.js";

const NAMES = ["status", "progress", "report", "group", "gallery", "ballot", "taste"];
const listeners = new Set();

/**
 * Hear the events of some runs.
 * @param {{concerns(data: object): boolean, heard(name: string, data: object): void, lost(): void, back(): void}} listener
 * @returns {() => void} stops it
 */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The runs that are live, each with its node, and the node that prepares one: {runs: [{run, node, workflow, state, ...}], preparing}. */
export function liveRuns() {
  return asked("/mixgrpo/live");
}

/** Everything there is to draw of a run; null when its folder is gone. */
export async function storedRun(run) {
  try {
    return await asked(`/mixgrpo/runs/${encodeURIComponent(run)}`);
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** Let a command ("sample", "save", "pause", "stop") wait for the end of the iteration. */
export function command(run, name) {
  return asked(`/mixgrpo/runs/${encodeURIComponent(run)}/command`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ command: name }),
  });
}

/** Make the LoRA of an iteration of the gallery the run's; null the last one. Gives the gallery. */
export function keepLora(run, iteration) {
  return asked(`/mixgrpo/runs/${encodeURIComponent(run)}/keep`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ iteration }),
  });
}

/** Cast votes ({image: vote}, null takes one back) on a ballot; `end` ("done", "skipped") closes it. Gives the ballot. */
export function castVotes(run, ballot, votes, end) {
  return asked(`/mixgrpo/runs/${encodeURIComponent(run)}/ballots/${encodeURIComponent(ballot)}/votes`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ votes, end }),
  });
}

/** Say that the taste is `wrong` about an image that it shows, or take that back. Gives {image, said}. */
export function sayWrong(run, image, wrong) {
  return asked(`/mixgrpo/runs/${encodeURIComponent(run)}/taste/wrong`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ image, wrong }),
  });
}

/** Address of a picture that an event speaks of; `version` tells successive pictures of one name apart. */
export function pictureUrl(image, version) {
  const { filename, subfolder, type } = image;
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type, v: version })}`);
}

async function asked(path, options) {
  const answer = await api.fetchApi(path, options);
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  throw Object.assign(new Error(body.error ?? `The server answered ${answer.status}.`), { status: answer.status });
}

for (const name of NAMES) {
  api.addEventListener(`mixgrpo.${name}`, ({ detail }) => {
    for (const listener of listeners) if (listener.concerns(detail)) listener.heard(name, detail);
  });
}
api.addEventListener("reconnecting", () => listeners.forEach((listener) => listener.lost()));
api.addEventListener("reconnected", () => listeners.forEach((listener) => listener.back()));

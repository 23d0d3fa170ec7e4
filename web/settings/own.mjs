// A person's own presets: in ComfyUI's user data, which keeps those of several users apart.

import { settingOf } from "./inputs.mjs";

const FILE = "mixgrpo.trainer_settings.json";
const ASKED = new Set(["seed"]); // of a run, not of a preset
const TEXT = "more_settings";

/** The presets by name: `{name: {setting: value}}`. Throws a sentence where the file cannot be read. */
export async function ownPresets(api) {
  const answer = await api.getUserData(FILE);
  if (answer.status === 404) return {};
  if (!answer.ok) throw new Error(`Your settings cannot be read: the server answered ${answer.status}.`);
  const found = await answer.json().catch(() => null);
  if (found?.settings && typeof found.settings === "object") return found.settings;
  throw new Error(`Your settings cannot be read: ${FILE} in ComfyUI's user folder is damaged. Move it away.`);
}

/** Add a preset, or take one away where `values` is null. Gives all of them as they are kept then. */
export async function keepPreset(api, name, values) {
  const settings = await ownPresets(api); // another tab may have added some
  if (values) settings[name] = values;
  else delete settings[name];
  const answer = await api.storeUserData(FILE, { version: 1, settings }, { overwrite: true, stringify: true, throwOnError: false });
  if (!answer.ok) throw new Error(`Your settings cannot be saved: the server answered ${answer.status}.`);
  return settings;
}

/** What a preset keeps of a node: its choices, and what was set by hand. */
export function toKeep(held) {
  const given = ([name, value]) => !ASKED.has(name) && value !== (name === TEXT ? "" : held.unset.get(name));
  const entries = Object.entries(held.values).filter(given);
  return Object.fromEntries(entries.sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** Set a node to what a preset keeps. Gives the names of settings that could not be set. */
export function take(held, kept) {
  const { details, ...rest } = kept;
  const widget = (name) => held.node.widgets.find((one) => settingOf(one) === name && one.serialize !== false);
  const inDetails = Object.keys(rest).some((name) => held.unset.has(name) && !widget(name));
  held.set(widget("details"), inDetails ? "set by hand" : (details ?? "from preset"));
  for (const one of held.node.widgets) {
    const name = settingOf(one);
    if (held.unset.has(name) && !(name in rest) && held.isByHand(one)) held.putBack([one]);
  }
  if (!held.isLinked(widget(TEXT))) held.set(widget(TEXT), rest[TEXT] ?? "");
  return Object.entries(rest).filter(([name, value]) => !fits(widget(name), value, held)).map(([name]) => name);
}

function fits(widget, value, held) {
  const offered = widget?.options?.values;
  if (!widget || (Array.isArray(offered) && !offered.includes(value))) return false;
  held.set(widget, value);
  return true;
}

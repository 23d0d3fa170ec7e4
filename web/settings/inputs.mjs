// What the server's description of the node says of its inputs: what stands for "as the preset has it", and the groups.

const CHOSEN = new Set(["preset", "model_family", "memory", "seed", "details", "more_settings"]);
const FROM_PRESET = "from preset";

/**
 * The inputs of Trainer Settings by the names of their settings.
 * @returns {{unset: Map<string, number | string>, groups: Map<string, string[]>}} `unset`: the values that leave a
 *   setting to the preset; `groups`: the details by the names of their groups.
 */
export function inputsOf(nodeData) {
  const unset = new Map();
  const groups = new Map();
  const read = (inputs) => {
    for (const [name, [kind, options]] of Object.entries({ ...inputs.required, ...inputs.optional })) {
      if (CHOSEN.has(name) || options?.default === undefined) continue;
      unset.set(name, options.default);
      const group = options.mixgrpo_group;
      if (group) groups.set(group, [...(groups.get(group) ?? []), name]);
    }
  };
  read(nodeData.input);
  for (const option of nodeData.input.required.details[1].options) read(option.inputs);
  return { unset, groups };
}

/** The setting that a widget is an input of: "width" for "details.width". */
export const settingOf = (widget) => widget.name.replace(/^details\./, "");

export const isFromPreset = (value) => value === FROM_PRESET;

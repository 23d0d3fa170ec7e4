"""Mutated prompt files of every kind that people have."""

import csv
import io
import json

from campaigns import mutations
from campaigns.told import TOLD
from mixgrpo_core.settings.prompt_files import LONGEST_LINE
from mixgrpo_core.settings.prompts import read_prompts

PROMPTS = [
    "a red circle",
    "a blue square, large",
    'a "quoted" cross',
    "ein gr\u00fcner Stern",
    "\u8d64\u3044\u5186",
    "a cat",
]


def _csv(delimiter=","):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([["id", "prompt", "note"], *([n, prompt, "x"] for n, prompt in enumerate(PROMPTS))])
    return file.getvalue()


SEEDS = {
    ".txt": "# prompts\n" + "\n".join(PROMPTS) + "\n",
    ".jsonl": "".join(json.dumps({"prompt": prompt, "tag": 1}) + "\n" for prompt in PROMPTS),
    ".ndjson": "".join(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in PROMPTS),
    ".json": json.dumps(PROMPTS),
    ".json ": json.dumps([{"prompt": prompt, "image": f"{n}.png"} for n, prompt in enumerate(PROMPTS)], indent=1),
    ".csv": _csv(),
    ".tsv": _csv("\t"),
}


class PromptFiles:
    told = TOLD

    def write(self, folder, chance):
        if chance.random() < 0.12:
            self._captions(folder, chance)
            return
        suffix, seed = chance.choice(sorted(SEEDS.items()))
        if suffix.strip() == ".json" and chance.random() < 0.5:
            seed = mutations.dumps(mutations.value(chance, json.loads(seed)))
        else:
            seed = mutations.text(chance, seed)
        suffix = chance.choice(
            (suffix.strip(), suffix.strip(), suffix.strip().upper(), chance.choice(sorted(SEEDS)), "")
        )
        (folder / f"prompts{suffix}").write_bytes(mutations.encoded(chance, seed))

    def _captions(self, folder, chance):
        place = folder / "prompts"
        place.mkdir()
        for number, prompt in enumerate(PROMPTS):
            (place / f"{number}.txt").write_bytes(mutations.encoded(chance, mutations.text(chance, prompt)))
            (place / f"{number}.png").write_bytes(b"\x89PNG\r\n")
        if chance.random() < 0.3:
            (place / chance.choice(("sub", "x.txt", ".txt"))).mkdir(exist_ok=True)

    def take(self, folder):
        (path,) = folder.iterdir()
        found = read_prompts(str(path))
        both = [*found.train, *found.held_out]
        assert both and all(isinstance(prompt, str) and prompt.strip() for prompt in both), "prompts without words"
        assert all(len(prompt) <= LONGEST_LINE for prompt in both), "an endless prompt"
        assert not any("\ufeff" in prompt for prompt in both if prompt[:1] == "\ufeff"), "a byte-order mark in a prompt"
        assert len(both) == len(set(both)), "a prompt twice"
        return f"{len(both)} prompts"

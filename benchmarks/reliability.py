"""benchmarks/reliability.md and .json, from what the campaigns of ``make test-long`` left in ``.long/figures``.

A part that was not run with the code here keeps the figures of the run that it had, with its commit; one that never was
stands as not run.
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOUND = HERE.parent / ".long" / "figures"
JSON, PAGE = HERE / "reliability.json", HERE / "reliability.md"

FUZZ = "mutated {}: taken, or refused in a sentence, within 10 CPU s and 256 MiB, writing nowhere else"
PARTS = {
    "kills": "SIGKILL, SIGTERM and SIGINT to `mixgrpo train` and `resume` of a small run, at random times and at the "
    "writing of files; then `resume`. Metrics, LoRAs and the last checkpoint equal those of the run that nothing came "
    "between bit for bit; nothing is left behind; the last two signals lose no iteration",
    "host-kills": "SIGKILL to a ComfyUI that trains the demo model over HTTP; started again, queued again: equal bit "
    "for bit",
    "fuzz-run-files": FUZZ.format("run files, up to where training begins; small ones are begun"),
    "fuzz-prompts": FUZZ.format("prompt files: txt, jsonl, ndjson, json, csv, tsv, folders of captions"),
    "fuzz-loras": FUZZ.format("LoRA files of five layouts, as the start of a run"),
    "fuzz-conversions": FUZZ.format("LoRA files for Convert LoRA"),
    "fuzz-checkpoints": FUZZ.format(
        "run folders: settings, reports, checkpoints, LoRAs; a resume that is not refused "
        "ends in the LoRA of the undamaged run"
    ),
    "fuzz-rewards": FUZZ.format("reward weights: safetensors, torch files, folders of the hub"),
    "fuzz-endpoints": (
        "mutated requests to the live view's routes over connections, with damaged run folders and ballots: each gets "
        "an answer that is no failure of the server, within the same bounds"
    ),
    "fuzz-judges": FUZZ.format("judges' answers, some through a server"),
    "soak": "`mixgrpo train` of the demo's size as a process: memory, file handles, threads and disk are level, and "
    "the log has no error",
    "host-soak": "the same in a ComfyUI, its live view asked every two seconds",
}
WANTED = {"kills": 200, "host-kills": 20, "soak": 15, "host-soak": 15}
SHARES = {"fuzz-run-files": 2000, "fuzz-prompts": 1500, "fuzz-loras": 1000, "fuzz-conversions": 500}
SHARES |= {"fuzz-checkpoints": 1500, "fuzz-rewards": 1500, "fuzz-endpoints": 1000, "fuzz-judges": 1000}
WANTED |= SHARES


def page(found):
    """The page of figures by part."""
    rows = ["| part | asked for | run | failed | what came out | time | of |", "|---|---|---|---|---|---|---|"]
    rows += [row(part, found.get(part)) for part in PARTS]
    told = [f"* **{part}**: {words}." for part, words in PARTS.items()]
    return "\n".join([HEAD, *rows, "", "What each part does:", "", *told, "", TAIL])


HEAD = """# Reliability

What `make test-long` found in its last runs: kills, fuzz, soak. `make reliability` writes this page.
"""
TAIL = """Every part can be interrupted and taken up again (`make test-long PART=fuzz-loras`): its cases are made from
their numbers, and what is done stands in `.long/`; with other code it begins anew. The two soaks are taken up whole. A
failing input is kept in `.long/failed/`. A *sentence* is an error of a kind that the command line prints without a
traceback, raised by this code in at most 1,500 characters. Where a case writes is seen by Python's audit hooks and by a
home, a working folder, a folder for temporary files and a neighbour that have to stay as they are. In the soak a growth
is the Theil-Sen slope over the last 60 % of the time, times that time. Other work ran on the machine, which has two
cores.
"""


def row(part, found):
    if found is None:
        return f"| {part} | {WANTED[part]} | not run | | | | |"
    unit = " min" if part.endswith("soak") else ""
    seconds = found["seconds"]
    time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
    failed = len(found["grows"]) + len(found["errors"]) if unit else found["fault"]
    run = f"{found['run']:g}{unit}"
    return f"| {part} | {WANTED[part]}{unit} | {run} | {failed} | {words(part, found)} | {time} | {found['commit']} |"


def words(part, found):
    """What came out, by kind of part."""
    if part.startswith("fuzz"):
        taken = "answered" if part == "fuzz-endpoints" else "taken"
        refused = f", {found['sentence']} sentences" if found["sentence"] else ""
        return (
            f"{found['accepted']} {taken}{refused}; longest {found['longest_s']:g} CPU s, most {found['most_mib']} MiB"
        )
    if part.endswith("soak"):
        rest = ", ".join(f"{found[name]:g} {word}" for name, word in (("files", "files"), ("threads", "threads")))
        return (
            f"{found['iterations']} iterations; {found['rss_mib']:.0f} MiB ({found['rss_mib_growth']:+.1f}), {rest}, "
            f"disk {found['disk_mib']:.1f} MiB ({found['disk_mib_growth']:+.1f}), "
            f"logs {found['logs_mib_growth']:+.2f} MiB"
        )
    aims = ", ".join(
        f"{count} at {'the writing of files' if aim == 'writing' else 'random times'}"
        for aim, count in sorted(found["aims"].items())
    )
    if part == "kills":
        signals = ", ".join(f"{count} {name}" for name, count in sorted(found["signals"].items()))
        return f"{found['stories']} runs; {signals}; {aims}; {found['again']} iterations done again"
    return aims


def main():
    found = json.loads(JSON.read_text()) if JSON.exists() else {}
    for path in sorted(FOUND.glob("*.json")):
        new = json.loads(path.read_text())
        found[new["part"]] = new
    JSON.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(found))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()

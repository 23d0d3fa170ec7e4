"""What a process holds while it trains for long, sample by sample, and whether that grows."""

import statistics
import time
from pathlib import Path

import psutil

EVERY = 2.0
SETTLED = 0.4
"""Share of the time after which memory has to be level: before it caches fill."""
MOST_GROWTH = {"rss_mib": 0.05, "files": 0.0, "threads": 0.0, "disk_mib": 0.05}
"""Growth over the settled time that is no growth, as a share of the level; memory and disk also may by `SLACK`."""
SLACK = {"rss_mib": 24.0, "files": 2.0, "threads": 2.0, "disk_mib": 2.0}


def sample(process, folder, growing=("metrics.jsonl", "events.out", "comfyui.log", "log", "plan")):
    """What ``process`` and its children hold, and the bytes under ``folder`` but for the files that log."""
    all_of_it = [process, *process.children(recursive=True)]
    sizes = {True: 0, False: 0}
    for path in Path(folder).rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                sizes[path.name.startswith(growing)] += path.stat().st_size
        except FileNotFoundError:
            continue
    return {
        "rss_mib": sum(one.memory_info().rss for one in all_of_it) / 2**20,
        "files": sum(one.num_fds() for one in all_of_it),
        "threads": sum(one.num_threads() for one in all_of_it),
        "disk_mib": sizes[False] / 2**20,
        "logs_mib": sizes[True] / 2**20,
    }


def watched(pid, folder, minutes, going_on, now_and_then=lambda: None):
    """Samples of ``minutes``, or until ``going_on()`` is false."""
    process, samples, start = psutil.Process(pid), [], time.monotonic()
    while time.monotonic() - start < 60 * minutes and going_on():
        samples.append({"at": time.monotonic() - start, **sample(process, folder)})
        now_and_then()
        time.sleep(EVERY)
    return samples


def slope(times, values, most=400):
    """Theil-Sen: the median of the slopes of all pairs, which no peak moves."""
    step = max(1, len(times) // most)
    points = list(zip(times, values, strict=True))[::step]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for n, a in enumerate(points) for b in points[n + 1 :] if b[0] > a[0]]
    return statistics.median(slopes) if slopes else 0.0


def figures(samples):
    """Of each measure: its level, the growth of the fit over the settled time, and whether that is too much."""
    whole = samples[-1]["at"]
    settled = [sample for sample in samples if sample["at"] >= SETTLED * whole]
    times = [sample["at"] for sample in settled]
    found = {"minutes": round(whole / 60, 1), "samples": len(samples)}
    for name in (*MOST_GROWTH, "logs_mib"):
        values = [sample[name] for sample in settled]
        found[name] = round(statistics.median(values), 2)
        found[f"{name}_growth"] = round(slope(times, values) * (times[-1] - times[0]), 3)
    found["grows"] = [
        name for name, share in MOST_GROWTH.items() if found[f"{name}_growth"] > max(share * found[name], SLACK[name])
    ]
    return found

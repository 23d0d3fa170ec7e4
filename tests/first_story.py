"""The first example workflow, and what makes a training of it short."""

import json
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "example_workflows"
WORKFLOW = json.loads((EXAMPLES / "1_first_lora_on_the_demo_model.json").read_text(encoding="utf-8"))
[TRAINER] = [node["id"] for node in WORKFLOW["nodes"] if node["type"] == "MixGRPO_TrainLora"]


def quick(workflow, run):
    """The workflow with another name for the run, one held-out caption, and iterations of one small group."""
    copy = json.loads(json.dumps(workflow))
    for node in copy["nodes"]:
        if node["type"] == "MixGRPO_TrainLora":
            node["widgets_values"][0] = run
        if node["type"] == "MixGRPO_PromptSet":
            node["widgets_values"][2] = "\n".join(node["widgets_values"][2].splitlines()[:1])
        if node["type"] == "MixGRPO_TrainerSettings":
            node["widgets_values"][3:6] = [300, 6, 1]  # iterations, images per prompt, prompts per iteration
    return copy

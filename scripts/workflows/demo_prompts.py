"""What the demo model is asked for in the stories."""

from mixgrpo_core.demo import held_out_prompts, train_prompts


def demo_prompts(*places: str) -> dict[str, str]:
    """The captions that the demo is trained on, and those that it never is; of all places, or of these only."""
    told = {"prompts": train_prompts(), "held_out_prompts": held_out_prompts()}
    return {name: "\n".join(one for one in found if one.endswith(places or "")) for name, found in told.items()}

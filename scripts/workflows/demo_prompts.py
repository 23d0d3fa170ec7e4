"""What the demo model is asked for in the stories."""

from mixgrpo_core.demo import held_out_prompts, train_prompts


def demo_prompts() -> dict[str, str]:
    """The captions that the demo is trained on, and those that it never is."""
    return {"prompts": "\n".join(train_prompts()), "held_out_prompts": "\n".join(held_out_prompts())}

"""Training from votes that are there: no rollout, no reward, the final latents of what was voted on."""

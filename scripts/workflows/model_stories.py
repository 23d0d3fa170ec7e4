"""The stories of models of gigabytes: trained by what people prefer, and watched by another judge of it."""

from .story import Story

PORTRAITS = """\
portrait of an old fisherman, window light
portrait of a young violinist on a stage
portrait of a botanist among ferns
portrait of a mechanic in a workshop
portrait of a dancer in a red coat
portrait of a chef in a busy kitchen
portrait of a woman reading on a train
portrait of a boy with a paper boat
"""
CLIP_FILES = ("clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors")
SD35 = "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors"
FLUX = "flux1-dev-fp8.safetensors"
HPS, PICKSCORE, IMAGE_REWARD = "HPS_v2.1_compressed.pt", "PickScore_v1.safetensors", "ImageReward.pt"

MODEL_FILES = (
    *(f"checkpoints/{SD35}", f"diffusion_models/{FLUX}", "vae/ae.safetensors"),
    *(f"text_encoders/{name}" for name in CLIP_FILES),
    *(f"reward_models/{name}" for name in (HPS, PICKSCORE, IMAGE_REWARD, "vocab.txt")),
)
"""The files that the stories' loaders name, under ``models``."""
BYPASSED = 4
_JUDGED = (
    f"* **reward_models/{IMAGE_REWARD}**, with **vocab.txt**\n\nImageReward has weight 0: it is only watched. If it "
    "falls while the other rises, the model tricks its reward.\n\n**Before you press Run**: unfold *Fit Check*, press "
    "Ctrl+B on it and run it alone. We have not tried this on a GPU: start small."
)


def sd35() -> Story:
    story = Story("3_train_sd35_medium_by_hpsv2")
    story.column(360)
    story.node("load", "CheckpointLoaderSimple", {"ckpt_name": SD35})
    story.note(
        340,
        "## SD 3.5 Medium, by HPSv2.1\n\nWrite your own prompts, choose your memory, press **Run**.\n\nFiles, below "
        f"*models*:\n\n* **checkpoints/{SD35}**\n* **reward_models/{HPS}**\n" + _JUDGED,
    )
    _judges(story, "HPSv2", HPS)
    _trained(story, "load.CLIP", top=190, model="load.MODEL", vae="load.VAE", name="portraits-sd35")
    return story


def flux() -> Story:
    story = Story("4_train_flux_dev_by_pickscore")
    story.column(360)
    story.node("load", "UNETLoader", {"unet_name": FLUX, "weight_dtype": "default"})
    story.node("vae", "VAELoader", {"vae_name": "ae.safetensors"})
    clip = {"clip_name1": CLIP_FILES[0], "clip_name2": CLIP_FILES[1], "type": "flux"}
    story.node("clip", "DualCLIPLoader", clip)
    story.note(
        290,
        "## FLUX.1-dev, by PickScore\n\nFiles, below *models*:\n\n"
        f"* **diffusion_models/{FLUX}**\n* **vae/ae.safetensors**\n* **text_encoders/{CLIP_FILES[0]}**\n"
        f"* **text_encoders/{CLIP_FILES[1]}**\n"
        f"* **reward_models/{PICKSCORE}**\n" + _JUDGED,
    )
    _judges(story, "PickScore", PICKSCORE)
    _trained(story, "clip.CLIP", top=190, model="load.MODEL", vae="vae.VAE", name="portraits-flux")
    return story


def _judges(story: Story, kind: str, file: str) -> None:
    story.node("trained", "MixGRPO_ClipReward", {"kind": kind, "file": file}, title=f"{kind}: trained")
    watched = {"file": IMAGE_REWARD, "weight": 0.0}
    story.node("watched", "MixGRPO_ImageReward", watched, title="ImageReward: watched")


def _trained(story: Story, clip: str, *, top: int, model: str, vae: str, name: str) -> None:
    """Prompts, rewards and settings; Fit Check, bypassed, above the trainer; what comes of it."""
    story.column(380, top)
    story.node("prompts", "MixGRPO_PromptSet", {"prompts": PORTRAITS}, height=300, clip=clip)
    story.rewards("trained", "watched")
    values = {"preset": "MixGRPO-Flash", "memory": "24 GB"}
    story.node("settings", "MixGRPO_TrainerSettings", values)
    story.column(500, gap=110)
    wires = {
        "model": model,
        "vae": vae,
        "prompts": "prompts.prompts",
        "rewards": "both.rewards",
        "settings": "settings.settings",
    }
    story.node("fit", "MixGRPO_FitCheck", mode=BYPASSED, collapsed=True, **wires)
    story.node("train", "MixGRPO_TrainLora", {"run_name": name}, **wires)
    story.column(420)
    story.node("grid", "PreviewImage", height=480, images="train.grid", title="before and after")
    story.node("curve", "PreviewImage", height=480, images="train.curve", title="the run")

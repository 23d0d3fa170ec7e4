"""The example workflows: one story a file."""

from mixgrpo_core.demo import held_out_prompts, train_prompts

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
DEMO_LORA = "mixgrpo/demo-lora-last.safetensors"


def model_files() -> list[str]:
    """The files that the stories' loaders name, under ``models``."""
    texts = [f"text_encoders/{name}" for name in CLIP_FILES]
    return [f"checkpoints/{SD35}", f"diffusion_models/{FLUX}", "vae/ae.safetensors", *texts, f"loras/{DEMO_LORA}"]


def first_lora() -> Story:
    story = Story("1_first_lora_on_the_demo_model")
    story.note(
        (40, 40),
        (360, 250),
        "## Your first LoRA by reinforcement learning\n\nPress **Run**. The demo model ships with this pack: no "
        "download, and a CPU needs about two minutes.\n\nThe model draws shapes but listens to its captions "
        "only half of the time. It makes groups of images, the reward says which of each group are right, and the LoRA "
        "learns from the difference. Watch *adherence* rise in the trainer; stop when you like what you see.",
    )
    story.node("demo", "MixGRPO_DemoModel", (40, 340))
    story.node("prompts", "MixGRPO_PromptSet", (40, 480), demo_prompts(), size=(360, 420), clip="demo.clip")
    story.node("reward", "MixGRPO_DemoReward", (440, 340), size=(320, 110))
    values = {"preset": "Demo", "model_family": "demo", "memory": "plenty"}
    story.node("settings", "MixGRPO_TrainerSettings", (440, 500), values, size=(320, 400))
    story.node(
        "train",
        "MixGRPO_TrainLora",
        (800, 40),
        {"run_name": "demo-lora"},
        size=(480, 940),
        model="demo.model",
        vae="demo.vae",
        prompts="prompts.prompts",
        rewards="reward.reward",
        settings="settings.settings",
    )
    _drawn(story, (1320, 40))
    return story


def _drawn(story: Story, at: tuple[int, int]) -> None:
    """The trained model, used in the same graph."""
    x, y = at
    text = {"text": "a small red circle on the left"}
    story.node("positive", "CLIPTextEncode", (x, y), text, size=(320, 110), clip="demo.clip")
    story.node("empty", "CLIPTextEncode", (x, y + 160), {"text": ""}, size=(320, 90), clip="demo.clip")
    story.node("latent", "EmptySD3LatentImage", (x, y + 300), {"width": 64, "height": 64, "batch_size": 8})
    values = {"seed": 7, "control_after_generate": "fixed", "steps": 20, "cfg": 1.0, "sampler_name": "euler"}
    values["scheduler"] = "simple"
    story.node(
        "sample",
        "KSampler",
        (x, y + 460),
        values,
        model="train.model",
        positive="positive.CONDITIONING",
        negative="empty.CONDITIONING",
        latent_image="latent.LATENT",
    )
    story.node("decode", "VAEDecode", (x, y + 780), samples="sample.LATENT", vae="demo.vae")
    story.node("show", "PreviewImage", (x + 360, y), size=(420, 400), images="decode.IMAGE", title="with the LoRA")
    story.node("curve", "PreviewImage", (x + 360, y + 460), size=(420, 420), images="train.curve", title="the run")
    story.group("the LoRA in the same graph", (x - 20, y - 60, 840, 960))


def demo_prompts() -> dict[str, str]:
    """The captions that the demo is trained on, and those that it never is."""
    return {"prompts": "\n".join(train_prompts()), "held_out_prompts": "\n".join(held_out_prompts())}


def window_sampling() -> Story:
    story = Story("2_sampling_with_a_window")
    story.note(
        (40, 40),
        (360, 210),
        "## Noise in a window\n\nMixGRPO samples some steps by an SDE and all others by an ODE. All eight images start "
        "from the *same* noise: they differ by what the window adds. Drag the window: early steps change structure, "
        "late ones detail. With size 0 they are all alike, and equal to *euler*.",
    )
    story.node("demo", "MixGRPO_DemoModel", (40, 300))
    text = {"text": "a large blue square on the right"}
    story.node("positive", "CLIPTextEncode", (40, 440), text, size=(360, 110), clip="demo.clip")
    story.node("guider", "BasicGuider", (440, 300), model="demo.model", conditioning="positive.CONDITIONING")
    values = {"scheduler": "simple", "steps": 25, "denoise": 1.0}
    story.node("sigmas", "BasicScheduler", (440, 400), values, model="demo.model")
    story.node("window", "MixGRPO_Window", (40, 600), {"start": 0, "size": 4, "steps": 25}, size=(360, 260))
    story.node("sampler", "MixGRPO_Sampler", (440, 580), {"kernel": "FlowSDE", "eta": 0.7}, window="window.window")
    story.node("latent", "EmptySD3LatentImage", (800, 300), {"width": 64, "height": 64, "batch_size": 1})
    story.node("same", "RepeatLatentBatch", (800, 460), {"amount": 8}, samples="latent.LATENT")
    story.node("noise", "RandomNoise", (440, 160), {"noise_seed": 11, "control_after_generate": "fixed"})
    story.node(
        "sample",
        "SamplerCustomAdvanced",
        (800, 580),
        noise="noise.NOISE",
        guider="guider.GUIDER",
        sampler="sampler.sampler",
        sigmas="sigmas.SIGMAS",
        latent_image="same.LATENT",
    )
    story.node("decode", "VAEDecode", (1140, 300), samples="sample.output", vae="demo.vae")
    story.node("show", "PreviewImage", (1140, 400), size=(460, 460), images="decode.IMAGE")
    story.node("plan", "MixGRPO_WindowPlan", (1640, 40), {"iterations": 100}, size=(460, 560), window="window.window")
    return story


def sd35() -> Story:
    story = Story("3_train_sd35_with_rewards")
    story.note(
        (40, 40),
        (360, 300),
        "## Stable Diffusion 3.5 Medium\n\nA LoRA that makes portraits crisp and calm in colour, from two rewards that "
        "need no download. Put `" + SD35 + "` into `models/checkpoints`.\n\nQueue **Fit Check** first (it is bypassed: "
        "select it and press Ctrl+B): it says how long an iteration takes and whether it fits your GPU. Not tried on a "
        "GPU by us yet: start small.",
    )
    story.node("load", "CheckpointLoaderSimple", (40, 400), {"ckpt_name": SD35}, size=(360, 100))
    _portraits(story, "load.CLIP")
    story.node("crisp", "MixGRPO_PixelReward", (440, 40), {"measure": "sharpness", "goal": "more"}, size=(320, 150))
    calm = {"measure": "colourfulness", "goal": "near the target", "target": 33.0}
    story.node("calm", "MixGRPO_PixelReward", (440, 240), calm, size=(320, 150))
    story.node("both", "MixGRPO_CombineRewards", (440, 440), size=(320, 100))
    story.wires += [("crisp", "reward", "both", "rewards.reward0"), ("calm", "reward", "both", "rewards.reward1")]
    values = {"preset": "MixGRPO-Flash", "model_family": "SD3.5", "memory": "24 GB"}
    story.node("settings", "MixGRPO_TrainerSettings", (440, 600), values, size=(320, 400))
    _trained(story, model="load.MODEL", vae="load.VAE", rewards="both.rewards", name="portraits-sd35")
    return story


def flux() -> Story:
    story = Story("4_train_flux_with_flash")
    story.note(
        (40, 40),
        (360, 260),
        "## FLUX.1-dev with MixGRPO-Flash\n\nThe window's tail is sampled by DPM-Solver++ in fewer steps. An fp8 base "
        "is trained through as it is; the LoRA fits the full model, too.\n\nFiles: `" + FLUX + "` in "
        "`models/diffusion_models`, `clip_l` and `t5xxl` in `models/text_encoders`, `ae` in `models/vae`. Not tried on "
        "a GPU by us yet: start with Fit Check.",
    )
    unet = {"unet_name": FLUX, "weight_dtype": "default"}
    story.node("load", "UNETLoader", (40, 340), unet, size=(360, 90))
    clip = {"clip_name1": CLIP_FILES[0], "clip_name2": CLIP_FILES[1], "type": "flux"}
    story.node("clip", "DualCLIPLoader", (40, 470), clip, size=(360, 130))
    story.node("vae", "VAELoader", (40, 650), {"vae_name": "ae.safetensors"}, size=(360, 60))
    _portraits(story, "clip.CLIP", at=(40, 760))
    story.node("calm", "MixGRPO_PixelReward", (440, 40), {"measure": "contrast", "goal": "more"}, size=(320, 150))
    values = {"preset": "MixGRPO-Flash", "model_family": "FLUX.1-dev", "memory": "24 GB"}
    story.node("settings", "MixGRPO_TrainerSettings", (440, 240), values, size=(320, 400))
    story.node("plan", "MixGRPO_WindowPlan", (440, 700), size=(320, 480), settings="settings.settings")
    _trained(story, model="load.MODEL", vae="vae.VAE", rewards="calm.reward", name="portraits-flux")
    return story


def _portraits(story: Story, clip: str, at: tuple[int, int] = (40, 560)) -> None:
    story.node("prompts", "MixGRPO_PromptSet", at, {"prompts": PORTRAITS}, size=(360, 440), clip=clip)


def _trained(story: Story, *, model: str, vae: str, rewards: str, name: str) -> None:
    wires = {
        "model": model,
        "vae": vae,
        "prompts": "prompts.prompts",
        "rewards": rewards,
        "settings": "settings.settings",
    }
    story.node("fit", "MixGRPO_FitCheck", (800, 40), size=(360, 200), **wires)
    story.nodes[-1]["mode"] = 4
    story.node("train", "MixGRPO_TrainLora", (1200, 40), {"run_name": name}, size=(480, 940), **wires)
    story.node("curve", "PreviewImage", (1720, 40), size=(420, 420), images="train.curve", title="the run")
    story.node("grid", "PreviewImage", (1720, 520), size=(420, 460), images="train.grid", title="before and after")


def compare() -> Story:
    story = Story("5_compare_and_hybrid")
    story.note(
        (40, 40),
        (360, 230),
        "## What did the LoRA learn?\n\nThe same prompts and noise without the LoRA, with it, and *hybrid*: the LoRA "
        "for most of the steps, the base model for the rest, which keeps the base's detail.\n\nRun the first workflow "
        "(*1 first lora*) before this one: it makes `demo-lora`.",
    )
    story.node("demo", "MixGRPO_DemoModel", (40, 320))
    lora = {"lora_name": DEMO_LORA, "strength_model": 1.0}
    story.node("lora", "LoraLoaderModelOnly", (440, 320), lora, size=(360, 90), model="demo.model")
    story.node("prompts", "MixGRPO_PromptSet", (40, 460), demo_prompts(), size=(360, 420), clip="demo.clip")
    story.node("reward", "MixGRPO_DemoReward", (440, 460), size=(320, 110))
    values = {"preset": "Demo", "model_family": "demo", "memory": "plenty"}
    story.node("settings", "MixGRPO_TrainerSettings", (440, 620), values, size=(320, 400))
    story.node(
        "compare",
        "MixGRPO_CompareLora",
        (840, 40),
        {"most_prompts": 6, "images": 4, "hybrid": 0.8},
        size=(760, 900),
        model="demo.model",
        model_with_lora="lora.MODEL",
        vae="demo.vae",
        prompts="prompts.prompts",
        settings="settings.settings",
        rewards="reward.reward",
    )
    story.node("table", "PreviewAny", (1640, 40), size=(400, 300), source="compare.table", title="rewards")
    return story


STORIES = [first_lora(), window_sampling(), sd35(), flux(), compare()]

"""The stories about rewards: scoring without a training, and people as a reward."""

from .demo_prompts import demo_prompts
from .story import Story


def score_and_rank() -> Story:
    story = Story("6_score_and_rank_images")
    story.note(
        (40, -220),
        (760, 190),
        "## Which is the best?\n\n*Score Images* ranks any images by any rewards, without a training: look at what a "
        "reward likes before it teaches your model. Here the demo model draws sixteen pictures of one caption; one "
        "reward asks for the right shape and colour, the other for calm pictures.\n\nTake *Load Image*, *VLM Judge* or "
        "*CLIP Reward* instead: every reward of this pack fits.",
    )
    story.node("demo", "MixGRPO_DemoModel", (40, 60), size=(340, 70))
    caption = "a large blue square on the right"
    story.node("positive", "CLIPTextEncode", (40, 230), {"text": caption}, size=(340, 110), clip="demo.clip")
    story.node("empty", "CLIPTextEncode", (40, 410), {"text": ""}, size=(340, 90), clip="demo.clip")
    sides = {"width": 64, "height": 64, "batch_size": 16}
    story.node("latent", "EmptySD3LatentImage", (40, 570), sides, size=(340, 110))
    values = {"seed": 3, "control_after_generate": "fixed", "steps": 20, "cfg": 1.0, "sampler_name": "euler"}
    story.node(
        "sample",
        "KSampler",
        (440, 60),
        {**values, "scheduler": "simple"},
        size=(300, 270),
        model="demo.model",
        positive="positive.CONDITIONING",
        negative="empty.CONDITIONING",
        latent_image="latent.LATENT",
    )
    story.node("decode", "VAEDecode", (440, 410), size=(300, 50), samples="sample.LATENT", vae="demo.vae")
    story.node("right", "MixGRPO_DemoReward", (800, 60), {"measure": "drawing"}, size=(320, 110))
    calm = {"measure": "contrast", "goal": "less", "weight": 0.2}
    story.node("calm", "MixGRPO_PixelReward", (800, 240), calm, size=(320, 150))
    story.node("both", "MixGRPO_CombineRewards", (800, 470), size=(320, 130))
    story.wires += [("right", "reward", "both", "rewards.reward0"), ("calm", "reward", "both", "rewards.reward1")]
    story.node(
        "score",
        "MixGRPO_ScoreImages",
        (1180, 60),
        {"prompt": caption, "keep": 4},
        size=(620, 640),
        images="decode.IMAGE",
        rewards="both.rewards",
    )
    story.node("best", "PreviewImage", (1860, 60), size=(420, 300), images="score.images", title="the best four")
    story.node("table", "PreviewAny", (1860, 430), size=(420, 270), source="score.table", title="why")
    return story


def your_taste() -> Story:
    story = Story("7_train_by_your_votes")
    story.note(
        (40, -220),
        (740, 190),
        "## You are the reward\n\nPress **Run**, then vote in the trainer: thumbs up for what you want, down for what "
        "you do not. The demo model learns your taste: try *only red ones*, or *only circles*.\n\nA group waits for "
        "you for two minutes; then the votes that came count. Reload the page if you like: the vote is still there.",
    )
    story.node("demo", "MixGRPO_DemoModel", (40, 60), size=(360, 70))
    story.node("prompts", "MixGRPO_PromptSet", (40, 230), demo_prompts(), size=(360, 632), clip="demo.clip")
    story.node("vote", "MixGRPO_HumanVote", (460, 60), {"time_limit": 120}, size=(320, 170))
    watched = {"measure": "saturation", "weight": 0.0}
    story.node("watch", "MixGRPO_PixelReward", (460, 300), watched, size=(320, 150))
    story.node("both", "MixGRPO_CombineRewards", (460, 520), size=(320, 130))
    story.wires += [("vote", "reward", "both", "rewards.reward0"), ("watch", "reward", "both", "rewards.reward1")]
    values = {"preset": "Demo", "model_family": "demo", "memory": "plenty"}
    values |= {"iterations": 12, "images_per_prompt": 9, "prompts_per_iteration": 2}
    story.node("settings", "MixGRPO_TrainerSettings", (460, 720), values, size=(320, 358))
    story.group("what it learns, and how", (20, -10, 780, 1108))
    story.node(
        "train",
        "MixGRPO_TrainLora",
        (860, 60),
        {"run_name": "my-taste"},
        size=(480, 1018),
        model="demo.model",
        vae="demo.vae",
        prompts="prompts.prompts",
        rewards="both.rewards",
        settings="settings.settings",
    )
    story.node("grid", "PreviewImage", (1400, 60), size=(520, 420), images="train.grid", title="before and after")
    story.node("curve", "PreviewImage", (1400, 560), size=(520, 518), images="train.curve", title="the run")
    return story

"""Weight files of rewards in the layout of the real ones and as small as they go: ImageReward, DINOv2, classifiers."""

import json

import torch

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "circle", "##s", ",", "on", "blue", "cafe", "[MASK]")
TOKENS = {word: row for row, word in enumerate(WORDS)}


class Draw:
    """Random tensors of a seed, in the order in which they are asked for."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, std=0.06, mean=0.0):
        return mean + std * torch.randn(*shape, generator=self.generator)

    def linear(self, name, out, into, std=0.06):
        return {f"{name}.weight": self.normal(out, into, std=std), f"{name}.bias": self.normal(out, std=std)}

    def norm(self, name, width):
        return {f"{name}.weight": self.normal(width, std=0.2, mean=1.0), f"{name}.bias": self.normal(width, std=0.1)}


def image_reward(seed=0, *, width=192, text_width=128, layers=2, patch=16, side=32):
    """Tensors with every name of ImageReward.pt; image tokens of small variance, so that epsilons show."""
    draw = Draw(seed)
    tensors = {
        "blip.visual_encoder.cls_token": draw.normal(1, 1, width, std=0.02),
        "blip.visual_encoder.pos_embed": draw.normal(1, 1 + (side // patch) ** 2, width, std=0.02),
        "blip.visual_encoder.patch_embed.proj.weight": draw.normal(width, 3, patch, patch, std=0.001),
        "blip.visual_encoder.patch_embed.proj.bias": draw.normal(width, std=0.01),
        **draw.norm("blip.visual_encoder.norm", width),
    }
    for layer in range(layers):
        block = f"blip.visual_encoder.blocks.{layer}"
        tensors |= draw.norm(f"{block}.norm1", width) | draw.norm(f"{block}.norm2", width)
        tensors |= draw.linear(f"{block}.attn.qkv", 3 * width, width) | draw.linear(
            f"{block}.attn.proj", width, width, std=0.01
        )
        tensors |= draw.linear(f"{block}.mlp.fc1", 2 * width, width)
        tensors |= draw.linear(f"{block}.mlp.fc2", width, 2 * width, std=0.01)
    text = "blip.text_encoder."
    tensors |= {
        f"{text}embeddings.position_ids": torch.arange(40)[None],
        f"{text}embeddings.word_embeddings.weight": draw.normal(len(WORDS) + 2, text_width, std=0.02),
        f"{text}embeddings.position_embeddings.weight": draw.normal(40, text_width, std=0.02),
        **draw.norm(f"{text}embeddings.LayerNorm", text_width),
    }
    for layer in range(layers):
        block = f"{text}encoder.layer.{layer}"
        for attention, keys in (("attention", text_width), ("crossattention", width)):
            tensors |= draw.linear(f"{block}.{attention}.self.query", text_width, text_width, std=0.15)
            tensors |= draw.linear(f"{block}.{attention}.self.key", text_width, keys, std=0.15)
            tensors |= draw.linear(f"{block}.{attention}.self.value", text_width, keys, std=0.15)
            tensors |= draw.linear(f"{block}.{attention}.output.dense", text_width, text_width, std=0.15)
            tensors |= draw.norm(f"{block}.{attention}.output.LayerNorm", text_width)
        tensors |= draw.linear(f"{block}.intermediate.dense", 2 * text_width, text_width)
        tensors |= draw.linear(f"{block}.output.dense", text_width, 2 * text_width)
        tensors |= draw.norm(f"{block}.output.LayerNorm", text_width)
    tensors |= draw.linear("blip.vision_proj", 8, width) | draw.linear("blip.text_proj", 8, text_width)
    sizes = (text_width, 32, 16, 8, 4, 1)
    for number, (into, out) in zip((0, 2, 4, 6, 7), zip(sizes, sizes[1:], strict=False), strict=True):
        tensors |= draw.linear(f"mlp.layers.{number}", out, into, std=0.3)
    return tensors


def write_vocabulary(folder):
    """A ``vocab.txt`` of `WORDS`; its path."""
    path = folder / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path


def dinov2(seed=0, *, width=128, layers=2, patch=14, side=42, swiglu=False, mask_token=True):
    """Tensors by the hub's names of DINOv2; with the gated feed-forward of its largest size if ``swiglu``."""
    draw = Draw(seed)
    tensors = {
        "embeddings.cls_token": draw.normal(1, 1, width, std=0.02),
        "embeddings.position_embeddings": draw.normal(1, 1 + (side // patch) ** 2, width, std=0.02),
        "embeddings.patch_embeddings.projection.weight": draw.normal(width, 3, patch, patch, std=0.001),
        "embeddings.patch_embeddings.projection.bias": draw.normal(width, std=0.01),
        **draw.norm("layernorm", width),
    }
    if mask_token:
        tensors["embeddings.mask_token"] = draw.normal(1, width)
    for layer in range(layers):
        block = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            tensors |= draw.linear(f"{block}.attention.attention.{part}", width, width)
        tensors |= draw.linear(f"{block}.attention.output.dense", width, width, std=0.02)
        tensors |= draw.norm(f"{block}.norm1", width) | draw.norm(f"{block}.norm2", width)
        for scale in ("layer_scale1", "layer_scale2"):
            tensors[f"{block}.{scale}.lambda1"] = draw.normal(width, std=0.1, mean=0.5)
        if swiglu:
            inner = (int(4 * width * 2 / 3) + 7) // 8 * 8
            tensors |= draw.linear(f"{block}.mlp.weights_in", 2 * inner, width)
            tensors |= draw.linear(f"{block}.mlp.weights_out", width, inner, std=0.02)
        else:
            tensors |= draw.linear(f"{block}.mlp.fc1", 4 * width, width)
            tensors |= draw.linear(f"{block}.mlp.fc2", width, 4 * width, std=0.02)
    return tensors


def clip_vision(seed=0, *, width=64, projected=32, layers=2, patch=14, side=28):
    """Tensors by transformers' names of a CLIP image tower with its projection, as in models/clip_vision."""
    draw = Draw(seed)
    name = "vision_model."
    tensors = {
        f"{name}embeddings.class_embedding": draw.normal(width),
        f"{name}embeddings.patch_embedding.weight": draw.normal(width, 3, patch, patch),
        f"{name}embeddings.position_embedding.weight": draw.normal(1 + (side // patch) ** 2, width),
        "visual_projection.weight": draw.normal(projected, width, std=0.2),
        **draw.norm(f"{name}pre_layrnorm", width),
        **draw.norm(f"{name}post_layernorm", width),
    }
    for layer in range(layers):
        block = f"{name}encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= draw.linear(f"{block}.self_attn.{part}", width, width)
        tensors |= draw.norm(f"{block}.layer_norm1", width) | draw.norm(f"{block}.layer_norm2", width)
        tensors |= draw.linear(f"{block}.mlp.fc1", 4 * width, width)
        tensors |= draw.linear(f"{block}.mlp.fc2", width, 4 * width)
    return tensors


CLASSIFIERS = ("vit", "swin", "siglip", "convnext")


def write_classifier(folder, kind, problem_type=None):
    """A tiny random image classifier of 32 x 32 pixels as the hub has them, into ``folder``; the network."""
    import transformers

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    image = {"image_size": 32, "patch_size": 8}
    settings, processor = {
        "vit": ({**small, **image}, "ViTImageProcessor"),
        "swin": (
            {
                "image_size": 32,
                "patch_size": 4,
                "embed_dim": 16,
                "depths": [1, 1],
                "num_heads": [2, 2],
                "window_size": 4,
            },
            "ViTImageProcessor",
        ),
        "siglip": ({"vision_config": {**small, **image}, "text_config": {**small, "vocab_size": 32}}, "Siglip"),
        "convnext": ({"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, "ConvNextImageProcessor"),
    }[kind]
    name = {"vit": "ViT", "swin": "Swin", "siglip": "Siglip", "convnext": "ConvNext"}[kind]
    labels = {0: "photo", 1: "drawing", 2: "fine art"}
    config = getattr(transformers, f"{name}Config")(**settings, id2label=labels, problem_type=problem_type)
    torch.manual_seed(0)
    network = getattr(transformers, f"{name}ForImageClassification")(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # as they are made, all images look alike to them
            parameter.add_(0.15 * torch.randn(parameter.shape))
    network.save_pretrained(folder)
    size = {"shortest_edge": 32} if kind == "convnext" else {"height": 32, "width": 32}
    statistics = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "do_normalize": True}
    saved = {"size": size, "resample": 2, "do_resize": True, "image_processor_type": processor, **statistics}
    (folder / "preprocessor_config.json").write_text(json.dumps(saved))
    return network


def aesthetic_head(layout, width, seed=0):
    """Tensors of an aesthetic predictor's head on embeddings of ``width`` numbers.

    The layouts are those of sac+logos+ava1-l14-linearMSE.pth, ava+logos-l14-reluMSE.pth (with room for ReLUs) and
    aesthetic_predictor_v2_5.pth.
    """
    draw = Draw(seed)
    prefix, numbers, dtype = {
        "linear": ("layers", (0, 2, 4, 6, 7), torch.float32),
        "relu": ("layers", (0, 3, 6, 9, 11), torch.float32),
        "2.5": ("scoring_head", (0, 2, 4, 6, 8), torch.bfloat16),
    }[layout]
    sizes = (width, 32, 16, 8, 4, 1)
    tensors = {}
    for number, into, out in zip(numbers, sizes, sizes[1:], strict=False):
        tensors |= draw.linear(f"{prefix}.{number}", out, into, std=0.4)
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}

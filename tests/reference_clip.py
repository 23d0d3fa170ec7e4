"""CLIP's forward pass written from its paper, on tensors in open_clip's layout; nothing of the core is used."""

import torch
from torch.nn import functional


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def norm(x, tensors, name, epsilon):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (variance + epsilon).sqrt() * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def attention(x, tensors, name, heads, causal):
    q, k, v = (x @ tensors[f"{name}.in_proj_weight"].T + tensors[f"{name}.in_proj_bias"]).chunk(3, -1)
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))  # [B, heads, L, D]
    weights = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if causal:
        weights = weights + torch.full(weights.shape[-2:], -torch.inf).triu(1)
    mixed = (weights.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return mixed @ tensors[f"{name}.out_proj.weight"].T + tensors[f"{name}.out_proj.bias"]


def transformer(x, tensors, name, heads, activation, epsilon, causal=False):
    layers = {key.split("resblocks.")[1].split(".")[0] for key in tensors if key.startswith(f"{name}resblocks.")}
    for layer in range(len(layers)):
        block = f"{name}resblocks.{layer}"
        x = x + attention(norm(x, tensors, f"{block}.ln_1", epsilon), tensors, f"{block}.attn", heads, causal)
        inner = norm(x, tensors, f"{block}.ln_2", epsilon)
        inner = activation(inner @ tensors[f"{block}.mlp.c_fc.weight"].T + tensors[f"{block}.mlp.c_fc.bias"])
        x = x + inner @ tensors[f"{block}.mlp.c_proj.weight"].T + tensors[f"{block}.mlp.c_proj.bias"]
    return x


def image_embeddings(tensors, pixels, *, heads=2, activation=gelu, epsilon=1e-5):
    """``[B, 3, side, side]`` to ``[B, D]`` of length 1."""
    kernel = tensors["visual.conv1.weight"]
    patches = functional.unfold(pixels, kernel.shape[-1], stride=kernel.shape[-1])  # [B, 3 P P, L]
    x = patches.transpose(1, 2) @ kernel.flatten(1).T
    x = torch.cat((tensors["visual.class_embedding"].expand(len(x), 1, -1), x), 1)
    x = norm(x + tensors["visual.positional_embedding"], tensors, "visual.ln_pre", epsilon)
    x = transformer(x, tensors, "visual.transformer.", heads, activation, epsilon)
    features = norm(x[:, 0], tensors, "visual.ln_post", epsilon) @ tensors["visual.proj"]
    return features / features.norm(dim=-1, keepdim=True)


def text_embeddings(tensors, tokens, *, heads=1, activation=gelu, epsilon=1e-5):
    """``[B, L]`` to ``[B, D]`` of length 1; the end of text is the highest token."""
    x = tensors["token_embedding.weight"][tokens] + tensors["positional_embedding"][: tokens.shape[1]]
    x = transformer(x, tensors, "transformer.", heads, activation, epsilon, causal=True)
    x = norm(x, tensors, "ln_final", epsilon)[torch.arange(len(x)), tokens.argmax(1)]
    features = x @ tensors["text_projection"]
    return features / features.norm(dim=-1, keepdim=True)

"""The oldest ComfyUI that is supported: it starts, knows the same nodes, and runs them."""

import json

import pytest
from comfy_client import Client, Graph

VERSION = "0.24.1"


@pytest.fixture(scope="module")
def oldest(start_host, request):
    place = request.config.getoption("--comfyui").parent / f"ComfyUI-{VERSION}"
    if not place.exists():
        pytest.skip(f"no ComfyUI {VERSION} beside the other one: python scripts/host.py install --version {VERSION}")
    host = start_host(place)
    yield host
    host.stop()


@pytest.fixture
def client(oldest):
    with Client(oldest.address) as client:
        yield client


def test_it_is_the_old_one_and_has_every_node_with_its_inputs(client, request):
    assert client.get("/system_stats")["system"]["comfyui_version"] == VERSION
    expected = json.loads(request.path.with_name("nodes.json").read_text())
    found = client.get("/object_info")
    assert expected.keys() <= found.keys()
    for name, node in expected.items():
        top = [field for field in node["inputs"] if "." not in field]
        groups = found[name]["input"]
        assert sorted(top) == sorted([*groups.get("required", {}), *groups.get("optional", {})])


def test_it_samples_with_a_window(client):
    graph = Graph()
    demo = graph.add("MixGRPO_DemoModel")
    prompt = graph.add("CLIPTextEncode", clip=demo[1], text="a small red circle on the left")
    window = graph.add("MixGRPO_Window", start=1, size=2, steps=6, strategy="fixed")
    settings = {"kernel": "FlowSDE", "eta": 0.7, "solver": "Euler", "tail_ratio": 1.0}
    rest = {"window_start": 0, "window_size": 0, "window_iteration": 0, "noise_seed_offset": 0}
    sampler = graph.add("MixGRPO_Sampler", window=window[0], **settings, **rest)
    sigmas = graph.add("BasicScheduler", model=demo[0], scheduler="simple", steps=6, denoise=1.0)
    latent = graph.add("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    wires = {"model": demo[0], "positive": prompt[0], "negative": prompt[0], "sampler": sampler[0], "sigmas": sigmas[0]}
    numbers = {"add_noise": True, "noise_seed": 3, "cfg": 1.0}
    sampled = graph.add("SamplerCustom", latent_image=latent[0], **wires, **numbers)
    image = graph.add("VAEDecode", samples=sampled[0], vae=demo[2])
    shown = graph.add("PreviewImage", images=image[0])
    assert len(client.run(graph).outputs[shown.id]["images"]) == 1


def test_it_loads_the_same_scripts(client):
    assert any(place.startswith("/extensions/mixgrpo/") for place in client.get("/extensions"))

"""The client and the fixture themselves, against ComfyUI's own nodes."""

import io

import pytest
from comfy_client import ExecutionFailed, Graph, Refused
from PIL import Image


def picture(colour, width=48):
    graph = Graph()
    image = graph.add("EmptyImage", width=width, height=32, batch_size=1, color=colour)
    shown = graph.add("PreviewImage", images=image[0])
    return graph, shown


def test_a_workflow_runs_to_its_end_and_its_picture_comes_back(client):
    graph, shown = picture(0x336699)
    run = client.run(graph)
    [image] = run.outputs[shown.id]["images"]
    found = Image.open(io.BytesIO(client.view(image)))
    assert found.size == (48, 32) and found.getpixel((0, 0)) == (0x33, 0x66, 0x99)
    assert run.executed() == ["1", "2"]
    assert run.end == "success" and run.error is None


def test_a_workflow_that_is_not_valid_is_refused_with_comfyuis_words(client):
    graph, _ = picture(0, width=-1)
    with pytest.raises(Refused, match="smaller than min") as refused:
        client.queue(graph)
    assert "1" in refused.value.node_errors


def test_the_error_of_a_node_is_raised(client):
    graph = Graph()
    small = graph.add("EmptyImage", width=16, height=16, batch_size=1, color=0)
    mask = graph.add("ImageToMask", image=small[0], channel="red")
    crop = graph.add("CropMask", mask=mask[0], x=16, y=16, width=8, height=8)
    image = graph.add("MaskToImage", mask=crop[0])
    graph.add("PreviewImage", images=image[0])
    with pytest.raises(ExecutionFailed, match="MaskToImage: cannot reshape"):
        client.run(graph)


def demo_sampling(steps):
    graph = Graph()
    demo = graph.add("MixGRPO_DemoModel")
    prompt = graph.add("CLIPTextEncode", clip=demo[1], text="a small red circle on the left")
    latent = graph.add("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    wires = {"model": demo[0], "positive": prompt[0], "negative": prompt[0], "latent_image": latent[0]}
    numbers = {"seed": 3, "steps": steps, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    sampled = graph.add("KSampler", **wires, **numbers)
    image = graph.add("VAEDecode", samples=sampled[0], vae=demo[2])
    size = graph.add("GetImageSize", image=image[0])
    graph.add("PreviewAny", source=size[0])
    return graph, sampled, size


def test_progress_pictures_and_texts_belong_to_their_node(client):
    graph, sampled, size = demo_sampling(steps=4)
    run = client.queue(graph, extra_data={"preview_method": "latent2rgb"}).wait()
    assert run.end == "success"
    assert {preview.node for preview in run.previews} == {sampled.id}
    width, height = run.previews[0].image().size
    assert width == height >= 8
    assert [(text.node, text.text.split(",")[0]) for text in run.texts] == [(size.id, "width: 64")]


def test_a_run_is_interrupted_in_the_middle_and_the_next_one_runs(client):
    graph, sampled, _ = demo_sampling(steps=5000)
    run = client.queue(graph)
    run.wait_for("progress", lambda data: data["value"] >= 3)
    client.interrupt(run)
    assert run.wait().end == "interrupted"
    assert run.error["node_id"] == sampled.id
    assert run.named("progress")[-1]["value"] < 5000
    assert client.run(demo_sampling(steps=2)[0]).end == "success"


def test_a_run_that_ends_early_does_not_keep_one_waiting_for_its_events(client):
    run = client.queue(picture(0x112233)[0])
    with pytest.raises(AssertionError, match="0 of 1 mixgrpo.report"):
        run.wait_for("mixgrpo.report")

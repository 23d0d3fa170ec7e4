"""Image classifiers: folders of several architectures against their own networks, and preprocessing against Pillow."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from reward_files_more import CLASSIFIERS, write_classifier

from mixgrpo_core.rewards.classifier.image_processor import ImageProcessor
from mixgrpo_core.rewards.classifier.reward import ImageClassifier
from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.networks.weight_files import WeightsError
from mixgrpo_core.rewards.port import RewardBatch

BASE = {"do_normalize": False, "do_resize": True, "resample": 3}


def images(count=3, height=32, width=32, seed=1):
    return torch.randint(0, 256, (count, height, width, 3), generator=torch.Generator().manual_seed(seed)) / 255


def batch(pictures):
    return RewardBatch(images=pictures, prompts=("",) * len(pictures))


def classifier(folder, label="fine art", **settings):
    return ImageClassifier(str(folder), label, place=Resident("cpu"), **settings)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_the_probability_is_that_of_the_folders_network(tmp_path, kind):
    network = write_classifier(tmp_path, kind)
    pictures = images()
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        odds = network((pictures.movedim(-1, 1) - mean) / std).logits.exp()
    found = classifier(tmp_path)(batch(pictures)).values
    torch.testing.assert_close(found, odds[:, 2] / odds.sum(1), atol=1e-5, rtol=0)
    assert found.std() > 1e-4


def test_labels_that_may_hold_together_are_judged_one_by_one(tmp_path):
    network = write_classifier(tmp_path, "vit", problem_type="multi_label_classification")
    pictures = images()
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        odds = network((pictures.movedim(-1, 1) - mean) / std).logits[:, 2].exp()
    torch.testing.assert_close(classifier(tmp_path)(batch(pictures)).values, odds / (1 + odds), atol=1e-5, rtol=0)


@pytest.fixture
def folder(tmp_path):
    write_classifier(tmp_path, "vit")
    return tmp_path


def test_a_penalty_begins_at_the_threshold(folder):
    pictures = images(8)
    seen = classifier(folder)(batch(pictures)).values
    middle = seen.sort().values[4].item() - 1e-6
    penalty = classifier(folder, threshold=middle)(batch(pictures)).values
    assert ((penalty == 0) == (seen <= middle)).all() and (penalty == 0).sum() == 4
    torch.testing.assert_close(penalty[seen > middle], middle - seen[seen > middle])
    with pytest.raises(ValueError, match="expected a threshold"):
        classifier(folder, threshold=50)


def test_the_probabilities_of_all_labels_sum_to_1(folder):
    scores = [classifier(folder, label)(batch(images())).values for label in ("photo", "DRAWING", "fine art")]
    torch.testing.assert_close(sum(scores), torch.ones(3))


def test_an_unknown_label_is_answered_with_the_known_ones(folder):
    with pytest.raises(ValueError, match="no label 'nsfw'; it knows photo, drawing, fine art"):
        classifier(folder, "nsfw").prepare([])


def test_a_batch_is_a_loop_and_order_does_not_matter(folder):
    pictures = images(5, 40, 50)
    scores = {size: classifier(folder, batch=size)(batch(pictures)).values for size in (1, 2, 5)}
    torch.testing.assert_close(scores[5], scores[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(scores[5], scores[2], atol=1e-6, rtol=0)
    flipped = classifier(folder)(batch(pictures.flip(0))).values.flip(0)
    torch.testing.assert_close(flipped, scores[5], atol=1e-6, rtol=0)


def test_half_precision_is_near_and_probabilities_are_not_in_it(folder):
    exact = classifier(folder)(batch(images())).values
    found = classifier(folder, precision="bfloat16")(batch(images())).values
    assert found.dtype == torch.float32 and 0 < (found - exact).abs().max() < 0.05
    assert classifier(folder, precision="bfloat16").about.memory == classifier(folder).about.memory / 2


def test_gradients_against_finite_differences(folder):
    reward = classifier(folder)
    with reward._tower.at_place() as network:
        network.double()
        pixels = torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        direction = torch.randn(pixels.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        probability = lambda x: network(x).logits.softmax(1)[0, 2]  # noqa: E731
        pixels.requires_grad_(True)
        probability(pixels).backward()
        slope = (probability(pixels + 1e-4 * direction) - probability(pixels - 1e-4 * direction)) / 2e-4
    assert slope.item() == pytest.approx((pixels.grad * direction).sum().item(), rel=1e-5)


def test_the_gradient_reaches_the_image(folder):
    pictures = images(2, 50, 40).requires_grad_(True)
    classifier(folder).values(batch(pictures)).sum().backward()
    assert pictures.grad.isfinite().all() and (pictures.grad.abs().sum((1, 2, 3)) > 0).all()


def test_a_picture_of_one_pixel(folder):
    assert classifier(folder)(batch(torch.full((1, 1, 1, 3), 0.5))).valid.all()


def spoil(folder, how):
    if how == "no preprocessor":
        (folder / "preprocessor_config.json").unlink()
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "truncated":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif how == "broken JSON":
        (folder / "preprocessor_config.json").write_text("{")
    else:
        config = json.loads((folder / "config.json").read_text())
        if how == "more layers than weights":
            config["num_hidden_layers"] += 1
        elif how == "no classifier":
            config["model_type"] = "t5"
        elif how == "unknown network":
            config["model_type"] = "of the future"
        elif how == "other width":
            config["hidden_size"] *= 2
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "how",
    [
        *("no preprocessor", "no config", "no weights", "truncated", "broken JSON", "more layers than weights"),
        *("no classifier", "unknown network", "other width"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_before_work_starts(folder, how):
    spoil(folder, how)
    with pytest.raises(WeightsError, match=folder.name):
        classifier(folder).prepare([])


def test_a_missing_folder_is_answered_with_one_that_exists():
    with pytest.raises(WeightsError, match="Falconsai/nsfw_image_detection"):
        classifier("none").prepare([])
    assert classifier("none").about.memory == 0


def written(tmp_path, config):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    return tmp_path


def smooth(height, width):
    """A picture without hard edges, on which Pillow's rounding between its passes does not show."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [127 + 120 * np.sin(x / 9 + y / 13 + shift) for shift in (0, 1, 2)]
    return np.stack(channels, -1).round().astype(np.uint8)


@pytest.mark.parametrize(
    "config, resize, box",
    [
        ({"size": {"height": 48, "width": 40}}, (40, 48), None),
        ({"size": 48}, (48, 48), None),
        ({"size": 48, "image_processor_type": "CLIPImageProcessor"}, (64, 48), None),
        ({"size": {"shortest_edge": 48}, "do_center_crop": True, "crop_size": 41}, (64, 48), (11, 3, 52, 44)),
        ({"size": {"shortest_edge": 42}, "crop_pct": 0.875}, (64, 48), (11, 3, 53, 45)),
        ({"size": {"shortest_edge": 400}, "crop_pct": 0.875}, (400, 400), None),
        ({"size": 60, "do_center_crop": True, "crop_size": {"height": 40, "width": 50}}, (60, 60), (5, 10, 55, 50)),
    ],
)
@pytest.mark.parametrize("resample", [2, 3])
def test_images_are_cut_and_shrunk_as_pillow_does(tmp_path, config, resize, box, resample):
    picture = smooth(90, 120)
    expected = np.asarray(Image.fromarray(picture).resize(resize, resample).crop(box)).astype(np.float32)
    processor = ImageProcessor.of(written(tmp_path, BASE | config | {"resample": resample}))
    found = 255 * processor(torch.from_numpy(picture)[None] / 255)[0].movedim(0, -1).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1.1 and np.abs(found - expected).mean() < 0.35  # two passes, each rounded


def test_scales_and_means_are_the_files(tmp_path):
    pixels = images(1, 4, 4)
    numbers = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 2.0]}
    for more, expected in (
        (numbers, (pixels[0] - torch.tensor(numbers["image_mean"])) / torch.tensor(numbers["image_std"])),
        (numbers | {"do_normalize": False}, pixels[0]),
        ({"do_normalize": False, "rescale_factor": 1 / 127.5}, 2 * pixels[0]),
        ({"do_normalize": False, "do_rescale": False}, 255 * pixels[0]),
    ):
        processor = ImageProcessor.of(written(tmp_path, {"do_resize": False} | more))
        torch.testing.assert_close(processor(pixels)[0].movedim(0, -1), expected)


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"longest_edge": 32}},
        {"size": 32, "resample": 1},
        {"size": 32, "do_normalize": True},
        {"size": 32, "do_center_crop": True, "crop_size": 33},
        {"size": 32, "rescale_offset": True},
        {},
    ],
)
def test_what_is_not_known_is_refused_instead_of_guessed(tmp_path, config):
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json asks for something unknown"):
        ImageProcessor.of(written(tmp_path, BASE | config))


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("preprocessor_config.json", {"image_mean": [0.5, [0.5], 0.5]}),
        ("preprocessor_config.json", {"image_std": {"a": 1}}),
        ("preprocessor_config.json", {"image_mean": [0.5]}),
        ("preprocessor_config.json", {"size": {"height": [32], "width": 32}}),
        ("preprocessor_config.json", {"rescale_factor": "much"}),
        ("config.json", {"model_type": []}),
        ("config.json", {"hidden_size": None}),
        ("config.json", {"num_attention_heads": 0.5}),
        ("config.json", {"initializer_range": "0.02"}),
    ],
)
def test_settings_of_another_kind_are_told(folder, file, changes):
    found = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**found, **changes}))
    with pytest.raises(WeightsError, match=str(folder)):
        classifier(folder).prepare([])


def test_a_processor_that_does_not_fit_its_network_is_told_before_the_run(folder):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": {"height": 32, "width": 33}}))
    with pytest.raises(WeightsError, match="cannot look at a picture"):
        classifier(folder).prepare([])

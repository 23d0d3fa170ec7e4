"""The live view's server side: events, pictures, routes and commands, on the host's own server object."""

import asyncio
import json
import threading
from dataclasses import replace
from urllib.parse import quote

import aiohttp.web
import comfy.model_management
import folder_paths
import pytest
import torch
from aiohttp.test_utils import TestClient, TestServer
from mixgrpo_pack.mixgrpo_core import SlidingWindow, TrainConfig
from mixgrpo_pack.mixgrpo_core.diagnosis import diagnose
from mixgrpo_pack.mixgrpo_core.objectives.update import UpdateStats
from mixgrpo_pack.mixgrpo_core.rewards.port import Scores
from mixgrpo_pack.mixgrpo_core.rewards.stats import RewardStats
from mixgrpo_pack.mixgrpo_core.runs.folder import RunFolder
from mixgrpo_pack.mixgrpo_core.runs.reports import GroupScored, Progress, StepReport
from mixgrpo_pack.mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_pack.mixgrpo_core.training.pace import Pace
from mixgrpo_pack.mixgrpo_core.training.workload import Workload
from mixgrpo_pack.nodes.live import Command, LiveRun, sheet
from mixgrpo_pack.nodes.live.board import Board, board
from mixgrpo_pack.nodes.live.routes import add_routes, register_routes
from mixgrpo_pack.nodes.live.runs import drawn_plan, find_run, stored
from mixgrpo_pack.nodes.live.throttle import Throttle
from PIL import Image
from server import PromptServer

CONFIG = TrainConfig(iterations=7, steps=8, planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=3)))


class Ears:
    """Stands where the host's server stands and writes down what it is told to send."""

    def __init__(self):
        self.sent = []

    def send_sync(self, name, data, sid=None):
        json.dumps(data, allow_nan=False)  # what a browser cannot parse must not be sent
        self.sent.append((name, data))

    def send_progress_text(self, text, node, sid=None):
        raise AssertionError("a line of text goes to any workflow that has a node of this number")

    def named(self, name):
        return [data for told, data in self.sent if told == name]


@pytest.fixture
def ears(monkeypatch):
    ears = Ears()
    monkeypatch.setattr(PromptServer, "instance", ears, raising=False)
    return ears


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    (tmp_path / "output" / "mixgrpo").mkdir(parents=True)
    return tmp_path / "output"


def live_run(output, run="my run", node="12"):
    folder = RunFolder.open_or_create(output / "mixgrpo" / run, CONFIG).path
    told = {"plan_of": CONFIG.plan, "sigmas": CONFIG.sigmas(), "pace": Pace(Workload(CONFIG))}
    return LiveRun(run=run, node=node, folder=folder, iterations=7, **told)


def step_report(iteration, mean=0.5):
    return StepReport(
        iteration=iteration,
        rewards={"taste": RewardStats(mean=mean, spread=float("nan"), valid=4, count=4)},
        evaluations=[],
        update=UpdateStats(steps=1, figures={"clip_low": 0.1}),
        flat_groups=0.25,
        window=(0, 2),
        sigmas=[1.0, 0.5, 0.0],
        nfe={"rollout": 8.0},
        seconds={"rollout": 1.0},
        peak_memory=3 << 30,
        trajectory_bytes=10,
    )


def scored(advantage, valid=None, side=16):
    count = len(advantage)
    values = torch.arange(count).float()
    mask = torch.ones(count, dtype=torch.bool) if valid is None else torch.tensor(valid)
    return GroupScored(
        iteration=0,
        prompt="a red circle",
        images=torch.linspace(0, 1, count)[:, None, None, None].expand(count, side, side, 3),
        scores={"taste": Scores(values, mask)},
        advantage=torch.tensor(advantage),
    )


# What the browser hears


def test_a_run_tells_its_whole_story_in_order(output, ears):
    with live_run(output) as live:
        live(Progress(iteration=0, phase="rollout", done=3, total=8))
        live(Progress(iteration=0, phase="train", done=0, total=4))
        live.report(step_report(0))
    states = [data["state"] for data in ears.named("mixgrpo.status")]
    assert states == ["loading", "finished"]
    assert [data["phase"] for data in ears.named("mixgrpo.progress")] == ["sampling", "updating"]
    (report,) = ears.named("mixgrpo.report")
    assert report["report"]["rewards"]["taste"]["mean"] == 0.5
    assert report["report"]["rewards"]["taste"]["spread"] is None
    assert report["peak_memory"] == 3 << 30
    assert all(data["run"] == "my run" and data["node"] == "12" for _, data in ears.sent)


def test_events_within_a_phase_are_thinned_out_and_a_new_phase_is_not(output, ears):
    with live_run(output) as live:
        for done in range(1, 200):
            live(Progress(iteration=0, phase="rollout", done=done, total=200))
        live(Progress(iteration=0, phase="train", done=0, total=1))
    phases = [data["phase"] for data in ears.named("mixgrpo.progress")]
    assert 1 <= phases.count("sampling") < 20
    assert phases[-1] == "updating"


@pytest.mark.parametrize("event", [Progress(iteration=0, phase="rollout", done=1, total=8), scored([1.0, -1.0])])
def test_the_hosts_interrupt_stops_at_every_event(output, ears, event):
    def training():
        with live_run(output) as live:
            comfy.model_management.interrupt_current_processing()
            live(event)

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        training()
    assert ears.named("mixgrpo.status")[-1]["state"] == "interrupted"
    assert board.find("my run") is None


def test_a_failure_is_told_in_its_own_words(output, ears):
    with pytest.raises(RuntimeError), live_run(output):
        raise RuntimeError("the disk is full")
    assert ears.named("mixgrpo.status")[-1]["state"] == "failed"
    assert ears.named("mixgrpo.status")[-1]["note"] == "the disk is full"


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_an_end_that_the_trainer_named_stays(output, ears, state):
    with live_run(output) as live:
        live.status(state, "kept as my.safetensors")
    last = ears.named("mixgrpo.status")[-1]
    assert (last["state"], last["note"]) == (state, "kept as my.safetensors")


def test_a_pause_that_ends_the_prompt_by_an_interrupt_stays_a_pause(output, ears):
    def training():
        with live_run(output) as live:
            live.status("paused", "queue again to go on")
            raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        training()
    last = ears.named("mixgrpo.status")[-1]
    assert (last["state"], last["note"]) == ("paused", "queue again to go on")


def test_without_a_server_nothing_fails(output, monkeypatch, caplog):
    monkeypatch.delattr(PromptServer, "instance", raising=False)
    with live_run(output) as live:
        live(Progress(iteration=0, phase="evaluation", done=1, total=8))
        live.report(step_report(0))
    register_routes({})
    assert "the live view failed" not in caplog.text, "the view's own guard must not hide it"
    assert live.snapshot()["state"] == "finished"


def test_an_unknown_state_is_refused(output, ears):
    with live_run(output) as live, pytest.raises(ValueError, match="'sleeping'"):
        live.status("sleeping")


def test_the_node_shows_its_progress_and_no_picture_that_could_land_elsewhere(output, ears, monkeypatch):
    shown = []
    monkeypatch.setattr("comfy.utils.PROGRESS_BAR_HOOK", lambda *told, node_id: shown.append((*told, node_id)))
    with live_run(output) as live:
        live.report(step_report(3))
        live(scored([1.0, -1.0]))
    assert shown == [(4, 7, None, "12")]


def test_the_event_names_the_workflow_that_was_queued(output, ears):
    class Queue:
        def get_current_queue_volatile(self):
            return [(0, "prompt", {}, {"extra_pnginfo": {"workflow": {"id": "abc"}}}, [])], []

    ears.prompt_queue = Queue()
    with live_run(output):
        pass
    assert {data["workflow"] for _, data in ears.sent} == {"abc"}


# Pictures


def test_tiles_lie_where_the_layout_says(output):
    event = scored([0.0, 1.0, -1.0, 0.5, -0.5])
    made = sheet.contact_sheet(event.images, event.scores, event.advantage)
    for index in range(5):
        left, top = made.corner(index)
        centre = (left + sheet.FRAME + 8, top + sheet.FRAME + 8)
        assert made.image.getpixel(centre) == (round(255 * index / 4),) * 3
    assert made.size == (16, 16)


def test_best_and_worst_are_framed_and_masked_images_never_are(output):
    event = scored([0.0, 2.0, -3.0, 0.0, 0.5], valid=[True, True, True, False, True])
    made = sheet.contact_sheet(event.images, event.scores, event.advantage)
    assert [tile.best for tile in made.tiles] == [False, True, False, False, False]
    assert [tile.worst for tile in made.tiles] == [False, False, True, False, False]
    assert made.tiles[3].scores == {"taste": None}
    frames = [made.image.getpixel(tuple(x + sheet.FRAME - 1 for x in made.corner(index))) for index in range(5)]
    assert frames[1][1] > 150 > frames[1][0]  # green
    assert frames[2][0] > 150 > frames[2][1]  # red
    assert frames[0] == frames[3] == frames[4]


def test_the_frames_colour_does_not_run_into_the_tile(output, tmp_path):
    event = scored([1.0, -1.0], side=64)
    made = sheet.contact_sheet(event.images * 0 + 0.5, event.scores, event.advantage)
    stored = Image.open(sheet.save(made, "run")).convert("RGB")
    for index in range(2):
        left, top = made.corner(index)
        box = (left + sheet.FRAME, top + sheet.FRAME, left + sheet.FRAME + 64, top + sheet.FRAME + 64)
        for low, high in stored.crop(box).getextrema():
            assert 126 <= low <= high <= 130


def test_a_masked_image_is_not_the_worst_though_its_zero_is_lowest(output):
    event = scored([1.0, 0.5, 0.0], valid=[True, True, False])
    tiles = sheet.contact_sheet(event.images, event.scores, event.advantage).tiles
    assert [tile.worst for tile in tiles] == [False, True, False]


def test_a_group_without_spread_has_neither_best_nor_worst(output):
    event = scored([0.0, 0.0, 0.0])
    tiles = sheet.contact_sheet(event.images, event.scores, event.advantage).tiles
    assert not any(tile.best or tile.worst for tile in tiles)


def test_large_images_are_made_smaller_and_keep_their_shape():
    images = torch.zeros(2, 640, 1280, 3)
    event = scored([1.0, -1.0])
    made = sheet.contact_sheet(images, event.scores, event.advantage)
    assert made.size == (512, 256)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (6, 3), (12, 4), (24, 6)])
def test_sheets_are_about_as_wide_as_a_photograph(count, columns):
    assert sheet.columns_for(count, (64, 64)) == columns


def test_the_sheet_is_a_file_in_the_temp_folder(output, ears, tmp_path):
    with live_run(output) as live:
        live(scored([1.0, -1.0]))
    (group,) = ears.named("mixgrpo.group")
    assert group["image"] == {"filename": "my run.jpg", "subfolder": "mixgrpo", "type": "temp"}
    size = Image.open(tmp_path / "temp" / "mixgrpo" / "my run.jpg").size
    tile, rows = group["tile"], -(-len(group["tiles"]) // group["columns"])
    step = (tile["width"] + 2 * tile["frame"], tile["height"] + 2 * tile["frame"])
    assert size == (group["columns"] * step[0], rows * step[1])
    assert group["tiles"][0] == {"scores": {"taste": 0.0}, "advantage": 1.0, "best": True, "worst": False}
    assert [path.name for path in (tmp_path / "temp" / "mixgrpo").iterdir()] == ["my run.jpg"]


# Time


def test_a_throttle_opens_again_after_its_time():
    now = [0.0]
    gate = Throttle(1.0, lambda: now[0])
    assert [gate.open(False), gate.open(False), gate.open(True)] == [True, False, True]
    now[0] = 1.0
    assert gate.open(False)


# Commands


def test_commands_wait_in_order_and_once(output, ears):
    with live_run(output) as live:
        for command in (Command.SAVE, Command.STOP, Command.SAVE):
            live.ask(command)
        assert ears.named("mixgrpo.status")[-1]["pending"] == ["save", "stop"]
        assert [live.take(), live.take(), live.take()] == [Command.SAVE, Command.STOP, None]
        assert ears.named("mixgrpo.status")[-1]["pending"] == []


def test_commands_from_another_thread_all_arrive(output, ears):
    with live_run(output) as live:
        threads = [threading.Thread(target=live.ask, args=(command,)) for command in Command]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {live.take() for _ in Command} == {*Command, None} - {Command.SAMPLE}
        assert live.pictures_wanted() and not live.pictures_wanted(), "who makes pictures takes that one"


def test_the_board_remembers_some_ended_runs(output, ears):
    short = Board()
    for index in range(Board.KEPT + 5):
        run = live_run(output, run="same folder")
        run.run = f"run {index}"
        short.add(run)
        short.end(run)
    assert short.live() == []
    assert short.ended("run 0") is None
    assert short.ended(f"run {Board.KEPT + 4}") is not None


# Routes


def over_http(*calls):
    """Answers (status, JSON) to ``(method, path, body)`` calls, over a real connection to the pack's handlers."""

    async def ask():
        routes = aiohttp.web.RouteTableDef()
        add_routes(routes)
        app = aiohttp.web.Application()
        app.add_routes(routes)
        async with TestClient(TestServer(app)) as client:
            answers = []
            for method, path, body in calls:
                sent = {"data": body} if isinstance(body, str | bytes) else {"json": body}
                async with client.request(method, path, **sent) as answer:
                    kind = answer.content_type
                    answers.append((answer.status, await answer.json() if kind == "application/json" else None))
            return answers

    return asyncio.run(ask())


def get(path):
    (answer,) = over_http(("GET", path, None))
    return answer


def test_the_live_runs_and_their_nodes_are_listed(output, ears):
    assert get("/mixgrpo/live") == (200, {"runs": [], "preparing": None})
    with live_run(output):
        status, found = get("/mixgrpo/live")
    assert status == 200
    assert [(run["run"], run["node"], run["state"]) for run in found["runs"]] == [("my run", "12", "loading")]


def test_a_run_comes_back_from_its_folder(output, ears):
    run = RunFolder.create(output / "mixgrpo" / "old", CONFIG)
    for iteration in range(3):
        run.record(step_report(iteration, mean=iteration / 10))
    status, found = get("/mixgrpo/runs/old")
    assert status == 200
    assert [report["rewards"]["taste"]["mean"] for report in found["reports"]] == [0.0, 0.1, 0.2]
    assert found["config"]["steps"] == 8
    assert found["plan"]["windows"] == [[0, 0, 2], [3, 1, 3], [6, 2, 4]]
    assert len(found["plan"]["sigmas"]) == 9
    assert found["live"] is False and found["said"] is None and found["problems"] == []


def test_the_drawn_plan_is_the_planners(output):
    drawn = drawn_plan(CONFIG.plan, CONFIG.sigmas(), 7)
    for iteration in range(7):
        first, stop = next(w[1:] for w in reversed(drawn["windows"]) if w[0] <= iteration)
        assert list(range(first, stop)) == list(CONFIG.planner.plan(iteration, 0, CONFIG.sigmas()).trained)


def test_a_fetched_state_tells_which_events_it_holds(output, ears):
    with live_run(output) as live:
        live(Progress(iteration=0, phase="train", done=1, total=4))
        _, found = get("/mixgrpo/runs/my%20run")
        assert found["said"]["serial"] == ears.sent[-1][1]["serial"]
        live(Progress(iteration=0, phase="rollout", done=1, total=4))
    serials = [data["serial"] for _, data in ears.sent]
    assert serials == sorted(set(serials)) and serials[-1] > found["said"]["serial"]


def test_a_live_run_says_what_it_does_and_what_it_showed_last(output, ears):
    with live_run(output) as live:
        live(scored([1.0, -1.0]))
        live(Progress(iteration=0, phase="train", done=1, total=4))
        _, found = get("/mixgrpo/runs/my%20run")
    assert found["live"] is True
    assert found["said"]["state"] == "updating"
    assert found["said"]["progress"]["done"] == 1
    assert len(found["said"]["group"]["tiles"]) == 2
    _, found = get("/mixgrpo/runs/my%20run")
    assert found["live"] is False and found["said"]["state"] == "finished"


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "%2e%2e",
        "..%2fsecret",
        "..%5csecret",
        "%2fetc",
        "%2e%2e%2f%2e%2e%2fetc",
        "old%00",
        ".hidden",
        "old%2f..%2fold",
        "old%2fcheckpoints",
        "old/inner",
        "old%252f..",
        "%c3%a9%2f..%2fold",
    ]
    + ["a" * 81, "old%0a", "C:%5cx", "-", "nobody"],
)
def test_no_name_leads_out_of_the_runs_folder(output, ears, name):
    RunFolder.create(output / "mixgrpo" / "old", CONFIG)
    (output / "mixgrpo" / "old" / "checkpoints").mkdir()
    RunFolder.create(output / "secret", CONFIG)
    RunFolder.create(output / "mixgrpo" / ".hidden", CONFIG)
    assert get(f"/mixgrpo/runs/{name}")[0] == 404
    (posted, _) = over_http(("POST", f"/mixgrpo/runs/{name}/command", {"command": "stop"}))[0]
    assert posted == 404


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../secret", "old/../old", "../mixgrpo/old", "/etc", "old\n", "old/", "a\0"]
)
def test_a_name_is_a_name_and_no_path(output, name):
    RunFolder.create(output / "mixgrpo" / "old", CONFIG)
    RunFolder.create(output / "secret", CONFIG)
    assert find_run("old") == (output / "mixgrpo" / "old").resolve()
    assert find_run(name) is None


@pytest.mark.parametrize("name", ["Künstler", "portraits/Käthe", "a/b/c 2"])
def test_a_run_in_a_sub_folder_and_in_any_script_is_reached_by_its_name(output, ears, name):
    RunFolder.create(output / "mixgrpo" / name, CONFIG)
    place = quote(name, safe="")
    status, told = get(f"/mixgrpo/runs/{place}")
    assert (status, told["run"], told["problems"]) == (200, name, [])
    ((status, told),) = over_http(("POST", f"/mixgrpo/runs/{place}/command", {"command": "stop"}))
    assert status == 409 and repr(name) in told["error"]


def test_a_link_out_of_the_runs_folder_is_not_followed(output, ears, tmp_path):
    RunFolder.create(tmp_path / "secret", CONFIG)
    (output / "mixgrpo" / "link").symlink_to(tmp_path / "secret")
    assert get("/mixgrpo/runs/link")[0] == 404


def test_a_command_reaches_the_live_run(output, ears):
    with live_run(output) as live:
        ((status, told),) = over_http(("POST", "/mixgrpo/runs/my%20run/command", {"command": "pause"}))
        assert status == 200 and told == {"taken": "pause"}
        assert ears.named("mixgrpo.status")[-1]["pending"] == ["pause"]
        assert live.take() is Command.PAUSE


@pytest.mark.parametrize(
    "body",
    [
        {"command": "rm"},
        {"command": None},
        {"command": ["stop"]},
        {"command": "stop" + " " * (1 << 15)},
        {},
        [],
        "stop",
        "{",
        b"\xff\xfe",
        b"[" * (1 << 13),
        b'{"command":' * (1 << 10),
        {"command": "STOP"},
    ],
)
def test_an_unknown_command_is_refused_with_the_known_ones(output, ears, body):
    with live_run(output) as live:
        ((status, told),) = over_http(("POST", "/mixgrpo/runs/my%20run/command", body))
        assert status == 400
        assert "sample, save, pause, stop" in told["error"]
        assert live.take() is None


def test_a_run_that_is_over_takes_no_commands(output, ears):
    with live_run(output):
        pass
    ((status, told),) = over_http(("POST", "/mixgrpo/runs/my%20run/command", {"command": "stop"}))
    assert status == 409 and "not being trained" in told["error"]


def test_damaged_metrics_are_shown_without_what_is_damaged(output, ears):
    run = RunFolder.create(output / "mixgrpo" / "torn", CONFIG)
    for iteration in range(3):
        run.record(step_report(iteration))
    path = run.path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{torn", lines[2]]))
    status, found = get("/mixgrpo/runs/torn")
    assert status == 200 and [report["iteration"] for report in found["reports"]] == [0, 2]
    assert "line 2 is no report; it lacks iteration 1." in found["problems"][0]


def test_a_line_that_is_being_written_is_no_damage(output, ears):
    run = RunFolder.create(output / "mixgrpo" / "torn", CONFIG)
    run.record(step_report(0))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 1, "rew')
    _, found = get("/mixgrpo/runs/torn")
    assert len(found["reports"]) == 1 and found["problems"] == []


@pytest.mark.parametrize("line", ["5", "[]", "null", "{}", '{"iteration": "x"}', '"text"'])
def test_a_line_that_is_no_report_is_left_out_of_the_curves(output, ears, line):
    run = RunFolder.create(output / "mixgrpo" / "odd", CONFIG)
    run.record(step_report(0))
    (run.path / "metrics.jsonl").open("a").write(f"{line}\n{line}\n")
    status, found = get("/mixgrpo/runs/odd")
    assert status == 200 and len(found["reports"]) == 1 and found["problems"]


def test_not_a_number_never_reaches_the_browser(output, ears):
    run = RunFolder.create(output / "mixgrpo" / "nan", CONFIG)
    broken = json.dumps(step_report(0).to_json()).replace("0.25", "NaN")
    (run.path / "metrics.jsonl").write_text(broken + "\n" + broken + "\n")
    status, found = get("/mixgrpo/runs/nan")
    assert status == 200 and found["reports"] == [] and found["problems"]


def test_what_the_doctor_says_is_told_with_each_report_and_from_the_folder(output, ears):
    """The same words, by the same code, as `mixgrpo doctor`."""
    off = replace(step_report(0), update=UpdateStats(steps=1, figures={"ratio_first": 0.004}))
    live = live_run(output)
    run = RunFolder.open(live.folder)
    with live:
        run.record(off)
        live.report(off)
    (event,) = ears.named("mixgrpo.report")
    expected = [finding.words for finding in diagnose(run).unasked]
    assert "higher precision" in expected[0]
    assert [cause["words"] for cause in event["diagnosis"]["told"]] == expected
    assert get("/mixgrpo/runs/my run")[1]["diagnosis"] == event["diagnosis"]


def test_a_folder_without_reports_or_with_other_peoples_has_no_diagnosis(output, ears):
    run = RunFolder.create(output / "mixgrpo" / "odd", CONFIG)
    assert get("/mixgrpo/runs/odd")[1]["diagnosis"] is None
    report = step_report(0).to_json()
    (run.path / "metrics.jsonl").write_text(
        json.dumps({**report, "update": {"clip_low": "a", "clip_high": "b"}}) + "\n"
    )
    assert get("/mixgrpo/runs/odd")[1]["diagnosis"] is None


@pytest.mark.parametrize("iterations", [-1, 2_000_000_000_000])
def test_the_plan_of_a_run_without_an_end_is_drawn_with_few_looks(tmp_path, iterations):
    looks = []
    config = TrainConfig(iterations=iterations, planner=WindowPlanner(window=SlidingWindow(size=2)), steps=6)

    def plan_of(*asked):
        looks.append(asked)
        return config.plan(*asked)

    plan = drawn_plan(plan_of, config.sigmas(), iterations, done=8000)
    assert plan["windows"] == [[0, 0, 2], [25, 1, 3], [50, 2, 4], [75, 3, 5]]
    assert plan["iterations"] == iterations and plan["shown"] == (10_000 if iterations < 0 else iterations)
    assert len(looks) <= 2000
    run = RunFolder.create(tmp_path / "run", config)
    assert stored(run.path)["plan"]["windows"] == plan["windows"]


def test_the_plan_is_drawn_over_the_grid_that_was_used(tmp_path):
    """A headless run of a model with a grid of its own, which no setting tells."""
    config = TrainConfig(steps=4, planner=WindowPlanner(window=SlidingWindow(size=2)))
    run = RunFolder.create(tmp_path / "run", config)
    assert stored(run.path)["plan"]["sigmas"] == pytest.approx(config.sigmas().tolist(), abs=1e-4)
    own = [1.0, 0.95, 0.9, 0.5, 0.0]
    run.record(replace(step_report(0), sigmas=own))
    assert stored(run.path)["plan"]["sigmas"] == own


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "train": {"steps": "many"}}']
)
def test_unreadable_settings_are_a_sentence(output, ears, text):
    run = RunFolder.create(output / "mixgrpo" / "odd", CONFIG)
    run.record(step_report(0))
    (run.path / "config.json").write_text(text)
    status, found = get("/mixgrpo/runs/odd")
    assert status == 200 and len(found["reports"]) == 1
    assert found["plan"] is None and "without its window" in found["problems"][0]


def test_metrics_that_are_no_file_are_a_sentence(output, ears):
    run = RunFolder.create(output / "mixgrpo" / "odd", CONFIG)
    (run.path / "metrics.jsonl").mkdir()
    status, found = get("/mixgrpo/runs/odd")
    assert status == 200 and "cannot be read" in found["problems"][0]


def test_routes_are_registered_once_on_the_hosts_own_table(ears):
    ears.routes = aiohttp.web.RouteTableDef()
    register_routes({})
    register_routes({})
    found = [(route.method, route.path) for route in ears.routes]
    assert found == [
        ("GET", "/mixgrpo/live"),
        ("GET", "/mixgrpo/runs/{run}"),
        ("POST", "/mixgrpo/runs/{run}/command"),
        ("POST", "/mixgrpo/runs/{run}/keep"),
        ("POST", "/mixgrpo/runs/{run}/taste/wrong"),
        ("GET", "/mixgrpo/runs/{run}/ballots/{ballot}"),
        ("POST", "/mixgrpo/runs/{run}/ballots/{ballot}/votes"),
    ]


def test_a_view_that_fails_ends_no_training_and_an_interrupt_does(output, ears, monkeypatch, caplog):
    """On Windows a picture that the browser reads can not be replaced; a browser may go away at any moment."""

    def refuse(*_args, **_options):
        raise PermissionError("in use")

    monkeypatch.setattr(ears, "send_sync", refuse)
    with live_run(output) as live:
        live(Progress(iteration=0, phase="rollout", done=1, total=2))
        live.report(step_report(0))
        live.status("saving")
        assert "the live view failed" in caplog.text
        comfy.model_management.interrupt_current_processing(True)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            live(Progress(iteration=0, phase="rollout", done=2, total=2))

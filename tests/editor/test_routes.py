"""The editor's routes: the same answers as the nodes, clear refusals, and no file outside ComfyUI's own lists."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from wan_relay.nodes.rules.relay.presets import PRESETS

pytestmark = [pytest.mark.comfy, pytest.mark.asyncio]

SCHEDULE = {
    "steps": "4",
    "scheduler": "simple",
    "sampler": "euler",
    "shift": "5",
    "denoise": "1",
    "switch": "step",
    "boundary": "0.9",
    "switch_step": "2",
}
SIZE = {"sizing": "match image", "width": "832", "height": "624", "fit": "crop", "length": "80", "batch_size": "1"}
TOY_HIGH, TOY_LOW = "toy_wan2.2_i2v_high_noise.safetensors", "toy_wan2.2_i2v_low_noise.safetensors"
OFFER = [{"input": "low_noise", "file": TOY_LOW}]
TOY_HIGH_LORA = "toy_wan2.2_i2v_high_noise_4step_lora.safetensors"
TOY_LOW_LORA = "toy_wan2.2_i2v_low_noise_4step_lora.safetensors"


@pytest.fixture
def listed(toy_models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ComfyUI's lists hold the toy family, and nothing else."""
    import folder_paths

    folders = ("diffusion_models", "checkpoints", "loras", "vae")
    for name in folders:
        entry = ([str(toy_models / name)], folder_paths.supported_pt_extensions)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, entry)
        folder_paths.filename_list_cache.pop(name, None)
    yield
    for name in folders:
        folder_paths.filename_list_cache.pop(name, None)


async def ask(route: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
    from wan_relay.nodes.editor.routes import add_routes

    app = web.Application()
    routes = web.RouteTableDef()
    add_routes(routes)
    app.add_routes(routes)
    async with TestClient(TestServer(app)) as client:
        response = await client.get(f"/wan_relay/{route}", params=query)
        return response.status, json.loads(await response.text())


async def test_schedule_is_the_plan_of_the_sampler() -> None:
    from wan_relay.nodes.engine.relay.sigma_schedule import plan_schedule

    plan = plan_schedule(4, "simple", "euler", 5.0, 1.0, "step", 0.9, 2)
    assert await ask("schedule", SCHEDULE) == (200, json.loads(json.dumps(plan)))
    assert (plan["n_high"], plan["n_low"]) == (2, 2)


async def test_a_schedule_behind_opening_legs() -> None:
    _, plan = await ask("schedule", SCHEDULE | {"opening": "1"})
    assert (plan["n_opening"], plan["n_high"], plan["n_low"], plan["switch_step"]) == ([1], 1, 2, 2)
    _, plan = await ask("schedule", SCHEDULE | {"opening": "1,2"})
    assert (plan["n_opening"], plan["n_high"], plan["n_low"], plan["switch_step"]) == ([1, 2], 0, 1, 3)
    assert [note["note"] for note in plan["notes"]] == ["no_high"]
    _, plan = await ask("schedule", SCHEDULE | {"opening": "4"})
    assert [note["note"] for note in plan["notes"]] == ["no_high", "no_low"]
    assert await ask("schedule", SCHEDULE | {"opening": "5"}) == (
        200,
        {"refused": "opening takes 5 steps, and the schedule has 4."},
    )
    status, answer = await ask("schedule", SCHEDULE | {"opening": "1,x"})
    assert (status, answer) == (400, {"error": "opening must be a whole number from 1 to 200, got 'x'."})


@pytest.mark.parametrize(
    ("asked", "used", "changes", "crop"),
    [
        (
            {"image_width": "4000", "image_height": "3000"},
            {"width": 832, "height": 624, "fit": "crop", "image_width": 4000, "image_height": 3000},
            [{"change": "length", "asked": 80, "used": 81, "multiple": 16}],
            None,
        ),
        (
            {"image_width": "4000", "image_height": "3000", "sizing": "fixed", "width": "835", "height": "480"},
            {"width": 832, "height": 480, "fit": "crop", "image_width": 4000, "image_height": 3000},
            [
                {"change": "width", "asked": 835, "used": 832, "multiple": 16},
                {"change": "length", "asked": 80, "used": 81, "multiple": 16},
                {"change": "crop_height", "percent": 23.1},
            ],
            [0, 7200 / 624, 100, 48000 / 624],
        ),
        (
            {"image_width": "4000", "image_height": "3000", "sizing": "fixed", "height": "480", "crop_position": "top"},
            {"width": 832, "height": 480, "fit": "crop", "image_width": 4000, "image_height": 3000},
            [
                {"change": "length", "asked": 80, "used": 81, "multiple": 16},
                {"change": "crop_height", "percent": 23.1},
            ],
            [0, 0, 100, 48000 / 624],
        ),
        (
            {"sizing": "fixed", "fit": "pad"},
            {"width": 832, "height": 624, "fit": "pad", "image_width": None, "image_height": None},
            [{"change": "length", "asked": 80, "used": 81, "multiple": 16}],
            None,
        ),
    ],
)
async def test_size_is_the_plan_of_prepare_latent(
    asked: dict[str, str], used: dict[str, Any], changes: list[dict[str, Any]], crop: list[float] | None
) -> None:
    fixed = {"length": 81, "batch_size": 1, "duration_s": 81 / 16, "fps": 16.0, "mistakes": []}
    fixed |= {"segments": [], "overlap": 0}
    used = used | {"timeline": [{"kind": "unknown", "first": 0, "last": 80}]}
    status, answer = await ask("size", SIZE | asked)
    assert answer.pop("budgets") == {"480p": [832, 480], "580p": [1024, 576], "720p": [1280, 720]}
    assert answer.pop("crop") == (crop and pytest.approx(crop))
    assert (status, answer) == (200, used | fixed | {"changes": changes})


async def test_size_draws_what_is_linked_before_the_run() -> None:
    query = SIZE | {"sizing": "fixed", "previous": "1", "overlap": "7", "padding": "grey", "keyframes": "-1,42"}
    status, answer = await ask("size", query)
    assert (status, [(span["kind"], span["first"], span["last"]) for span in answer["timeline"]]) == (
        200,
        [("overlap", 0, 8), ("unknown", 9, 43), ("keyframe", 44, 44), ("unknown", 45, 79), ("keyframe", 80, 80)],
    )
    assert answer["changes"][1:] == [
        {"change": "overlap", "asked": 7, "used": 9},
        {"change": "keyframe", "asked": 42, "used": 44},
        {"change": "middle"},
    ]


LONG = {"sizing": "fixed", "start_image": "1", "segment_length": "81", "segment_overlap": "5", "num_prompts": "3"}


async def test_size_knows_the_segments_of_long_video() -> None:
    status, answer = await ask("size", SIZE | LONG | {"length": "160", "loop": "true", "seeds": "1, 2"})
    assert (status, answer["length"], answer["duration_s"]) == (200, 161, 161 / 16)
    assert (answer["segments"], answer["overlap"]) == ([57, 57, 57], 5)
    assert answer["changes"] == [{"change": "length", "asked": 160, "used": 161, "multiple": 16}]
    assert answer["timeline"] == [
        {"kind": "known", "first": 0, "last": 0, "segment": 1},
        {"kind": "unknown", "first": 1, "last": 51, "segment": 1},
        {"kind": "overlap", "first": 52, "last": 56, "segment": 2},
        {"kind": "unknown", "first": 57, "last": 103, "segment": 2},
        {"kind": "overlap", "first": 104, "last": 108, "segment": 3},
        {"kind": "unknown", "first": 109, "last": 159, "segment": 3},
        {"kind": "known", "first": 160, "last": 160, "segment": 3},
    ]
    _, by_lengths = await ask("size", SIZE | LONG | {"lengths": "13, 17, 13", "length": "80"})
    assert (by_lengths["segments"], by_lengths["length"], by_lengths["changes"]) == ([13, 17, 13], 33, [])
    _, without = await ask("size", SIZE | {"sizing": "fixed", "lengths": "13"})
    assert (without["segments"], without["changes"][0]) == (
        [],
        {"change": "length", "asked": 80, "used": 81, "multiple": 16},
    )
    _, one = await ask("size", SIZE | LONG | {"num_prompts": "1", "length": "81"})
    assert (one["segments"], {span["segment"] for span in one["timeline"]}) == ([81], {1})


@pytest.mark.parametrize(
    ("asked", "status", "answer"),
    [
        ({"batch_size": "2"}, 200, {"refused": "batch_size of Prepare Latent must be 1 for a long video."}),
        ({"keyframes": "20"}, 200, {"refused": "keyframes of Prepare Latent must stay empty for a long video."}),
        (
            {"segment_length": "5"},
            200,
            {"refused": "segment_length must be more than overlap, which is 5; got 5."},
        ),
        (
            {"lengths": "81, x"},
            200,
            {"refused": "lengths must be whole numbers from 0 to 257 with commas between; got 'x'."},
        ),
        (
            {"num_prompts": "101", "length": "161"},
            200,
            {"refused": "Each prompt and each seed has a segment of its own: there are 101; 100 are possible."},
        ),
        (
            {"num_prompts": "x"},
            400,
            {"error": "num_prompts must be a whole number from 0 to 65536, got 'x'."},
        ),
        (
            {"segment_length": "900"},
            400,
            {"error": "segment_length must be a whole number from 5 to 257, got '900'."},
        ),
    ],
)
async def test_segments_that_cannot_be_are_refused(asked: dict[str, str], status: int, answer: dict[str, str]) -> None:
    assert await ask("size", SIZE | LONG | asked) == (status, answer)


async def test_size_goes_by_32_for_the_5b_vae_file(listed: None) -> None:
    fixed = SIZE | {"sizing": "fixed", "height": "720", "length": "121", "fps": "24"}
    sizes = {}
    for vae in (
        "toy_wan2.2_vae.safetensors",
        "toy_wan_2.1_vae.safetensors",
        "../vae/toy_wan2.2_vae.safetensors",
        "taew2_1",
    ):
        _, answer = await ask("size", fixed | {"vae": vae})
        sizes[vae] = answer["height"]
    assert sizes == {
        "toy_wan2.2_vae.safetensors": 736,
        "toy_wan_2.1_vae.safetensors": 720,
        "../vae/toy_wan2.2_vae.safetensors": 720,
        "taew2_1": 720,
    }


async def test_files_are_reported_from_their_headers(listed: None, toy_models: Path) -> None:
    from wan_relay.nodes.rules.files.expert_files import check_pair
    from wan_relay.nodes.rules.files.lora_files import check_lora_pair

    folder = toy_models / "diffusion_models"
    pair = {"high_noise": TOY_HIGH, "low_noise": TOY_LOW}
    report = check_pair(folder / TOY_HIGH, folder / TOY_LOW)
    assert await ask("experts", pair) == (200, json.loads(json.dumps({**report, "offers": []})))

    lora = toy_models / "loras" / TOY_HIGH_LORA
    loras = check_lora_pair(lora, None, folder / TOY_HIGH, folder / TOY_LOW)
    query = {"high_noise_lora": TOY_HIGH_LORA, "low_noise_lora": "none"}
    said = {"pairs": [{"high_noise": loras["high_noise"], "low_noise": None}], "trigger_words": [], "warnings": []}
    offers = [{"input": "low_noise_lora", "file": TOY_LOW_LORA}]
    assert await ask("loras", query | pair) == (200, json.loads(json.dumps({**said, "offers": offers})))
    assert (await ask("loras", query))[1]["pairs"][0]["high_noise"]["file"] == TOY_HIGH_LORA


async def test_every_row_is_reported_and_the_one_that_is_off_is_not_read(listed: None) -> None:
    none = {"high_noise_lora": "none", "low_noise_lora": "none", "pairs": "3"}
    rows = {"high_noise_lora_2": TOY_HIGH_LORA, "low_noise_lora_2": TOY_LOW_LORA, "is_on_2": "false"}
    rows |= {"high_noise_lora_3": TOY_LOW_LORA, "low_noise_lora_3": TOY_LOW_LORA, "is_on_3": "true"}
    status, answer = await ask("loras", none | rows)
    files = [[pair[slot] and pair[slot]["file"] for slot in ("high_noise", "low_noise")] for pair in answer["pairs"]]
    assert (status, files) == (200, [[None, None], [None, None], [TOY_LOW_LORA, TOY_LOW_LORA]])
    assert answer["warnings"] == [f"high_noise_lora_3: the name {TOY_LOW_LORA} speaks of the low-noise expert."]
    assert answer["offers"] == [{"input": "high_noise_lora_3", "file": TOY_HIGH_LORA}]
    gone = rows | {"high_noise_lora_3": "gone.safetensors"}
    assert await ask("loras", none | gone) == (
        404,
        {"error": "high_noise_lora_3: there is no file 'gone.safetensors' in the list of this input."},
    )
    assert await ask("loras", none | {"pairs": "7"}) == (
        200,
        {"refused": "pairs must be a whole number from 1 to 6, not '7'."},
    )


@pytest.mark.parametrize(
    ("route", "query", "sentence"),
    [
        ("schedule", SCHEDULE | {"switch_step": "5"}, "switch_step must be between 0 and the number of steps"),
        (
            "size",
            SIZE | {"sizing": "fixed", "loop": "true"},
            "loop needs a start_image and no end_image: the first frame is also the last.",
        ),
        ("experts", {"high_noise": TOY_HIGH, "low_noise": TOY_HIGH}, "holds the same weights"),
        ("experts", {"high_noise": TOY_HIGH, "low_noise": "none"}, "only TI2V-5B works with one file"),
    ],
)
async def test_what_the_node_would_refuse_is_an_answer(
    listed: None, route: str, query: dict[str, str], sentence: str
) -> None:
    status, answer = await ask(route, query)
    assert status == 200
    assert answer.pop("offers", OFFER) == OFFER
    assert list(answer) == ["refused"]
    assert sentence in answer["refused"]


@pytest.mark.parametrize(
    ("route", "query", "sentence"),
    [
        ("schedule", SCHEDULE | {"steps": "0"}, "steps must be a whole number from 1 to 200, got '0'."),
        ("schedule", SCHEDULE | {"steps": "4.5"}, "steps must be a whole number from 1 to 200, got '4.5'."),
        (
            "schedule",
            SCHEDULE | {"steps": "9" * 5000},
            f"steps must be a whole number from 1 to 200, got '{'9' * 80}'.",
        ),
        ("schedule", SCHEDULE | {"shift": "nan"}, "shift must be a number from 0.0 to 100.0, got 'nan'."),
        ("schedule", SCHEDULE | {"boundary": "inf"}, "boundary must be a number from 0.0 to 1.0, got 'inf'."),
        ("schedule", SCHEDULE | {"switch": "never"}, "switch must be one of boundary, step, got 'never'."),
        ("schedule", {}, "steps is missing from the question."),
        ("size", SIZE | {"width": "100000"}, "width must be a whole number from 16 to 8192, got '100000'."),
        ("size", SIZE | {"image_width": "4000"}, "image_height is missing from the question."),
        (
            "size",
            SIZE | {"keyframes": "4,", "sizing": "fixed"},
            "keyframes must be a whole number from -65536 to 65536, got ''.",
        ),
        ("size", SIZE | {"fps": "0.1"}, "fps must be a number from 0.125 to 480, got '0.1'."),
        ("size", SIZE | {"fps": "481"}, "fps must be a number from 0.125 to 480, got '481'."),
        ("experts", {}, "high_noise is missing from the question."),
        ("loras", {"high_noise_lora": "none"}, "low_noise_lora is missing from the question."),
    ],
)
async def test_a_bad_question_is_told_so_in_one_sentence(route: str, query: dict[str, str], sentence: str) -> None:
    assert await ask(route, query) == (400, {"error": sentence})


@pytest.mark.parametrize("name", ["../vae/toy_wan_2.1_vae.safetensors", "/etc/passwd", "..\\x", "no.safetensors", ""])
async def test_no_file_outside_the_lists_can_be_asked_for(listed: None, toy_models: Path, name: str) -> None:
    for route, query in [
        ("experts", {"high_noise": name, "low_noise": TOY_LOW}),
        ("experts", {"high_noise": TOY_HIGH, "low_noise": name}),
        ("loras", {"high_noise_lora": name, "low_noise_lora": "none"}),
        ("loras", {"high_noise_lora": "none", "low_noise_lora": name}),
    ]:
        status, answer = await ask(route, query)
        assert status == 404
        assert list(answer) == ["error"]
        assert str(toy_models) not in answer["error"]


async def test_the_english_help_page_answers_where_the_editor_asks_first() -> None:
    from wan_relay.nodes.editor.routes import HELP_PAGES, add_routes

    app, routes = web.Application(), web.RouteTableDef()
    add_routes(routes)
    app.add_routes(routes)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/extensions/any_folder/docs/WanRelay_Sample/en.md")
        assert (answer.status, await answer.text()) == (200, (HELP_PAGES / "WanRelay_Sample.md").read_text())
        for path in ("WanRelay_Other/en.md", "Other_Sample/en.md", "WanRelay_Sample/fr.md"):
            assert (await client.get(f"/extensions/any_folder/docs/{path}")).status == 404


async def test_the_settings_of_every_family_can_be_asked_for() -> None:
    assert await ask("presets", {}) == (200, PRESETS)


async def test_the_advice_for_a_pair_is_told_by_its_names(listed: None) -> None:
    pair = {"high_noise": TOY_HIGH, "low_noise": TOY_LOW}
    loras = {"high_noise_loras": f"style_high.sft\n{TOY_HIGH_LORA}", "low_noise_loras": TOY_LOW_LORA}
    status, answer = await ask("advice", pair | loras)
    assert (status, answer["preset"], answer["file"]) == (200, "four_steps", TOY_HIGH_LORA)
    assert answer["settings"]["steps"] == 4
    assert (await ask("advice", pair))[1]["preset"] == "i2v_reference"
    assert await ask("advice", pair | {"high_noise_loras": TOY_HIGH_LORA}) == (200, {"mistakes": []})
    assert (await ask("advice", pair | {"high_noise": "../x"}))[0] == 404


async def test_advice_names_what_the_settings_of_sample_do_wrong(listed: None) -> None:
    query = {"high_noise": TOY_HIGH, "low_noise": TOY_LOW, "steps": "4", "high_noise_cfg": "1", "low_noise_cfg": "1"}
    both = {"mistake": "few_steps", "steps": 4}, {"mistake": "no_guidance"}
    assert (await ask("advice", query | {"has_low_noise": "1"}))[1]["mistakes"] == [*both]
    loras = {"high_noise_loras": TOY_HIGH_LORA, "low_noise_loras": TOY_LOW_LORA, "has_low_noise": "1"}
    assert (await ask("advice", query | loras | {"low_noise_cfg": "3.5", "opening_cfgs": "1,3.5"}))[1]["mistakes"] == [
        {"mistake": "guided_low_noise", "cfg": 3.5}
    ]
    negative = query | loras | {"has_negative": "1"}
    assert (await ask("advice", negative))[1]["mistakes"] == [{"mistake": "negative_unused"}]
    assert (await ask("advice", negative | {"has_nag": "1"}))[1]["mistakes"] == []
    assert (await ask("advice", query | {"steps": "none"}))[0] == 400


@pytest.mark.parametrize(
    ("query", "mistakes"),
    [
        ({"high_noise": TOY_HIGH}, ["i2v_without_image"]),
        ({"high_noise": TOY_HIGH, "end_image": "1"}, []),
        ({"high_noise": "toy_wan2.2_t2v_high_noise_4step.safetensors", "start_image": "1"}, ["t2v_with_image"]),
        ({"high_noise": TOY_HIGH, "start_image": "1", "vae": "toy_wan2.2_vae.safetensors"}, ["vae_of_5b"]),
        ({"high_noise": TOY_HIGH, "start_image": "1", "vae": "toy_wan_2.1_vae.safetensors"}, []),
        ({"vae": "toy_wan2.2_vae.safetensors", "end_image": "1"}, ["end_image_5b"]),
        ({"vae": "pixel_space"}, []),
        ({"batch_size": "3"}, ["one_file"]),
        ({"high_noise": TOY_HIGH, "previous": "1"}, []),
        ({"start_image": "1", "loop": "true", "drop_last_frame": "false"}, ["loop_shown_twice"]),
        ({"start_image": "1", "loop": "true", "drop_last_frame": "true"}, []),
        ({"batch_size": "3", "videos": "3"}, []),
        ({"batch_size": "3", "videos": "3", "interpolated_videos": "1"}, ["other_interpolated_videos"]),
        ({"batch_size": "3", "videos": "3", "interpolated_videos": "3"}, []),
    ],
)
async def test_size_names_what_goes_ill_with_the_experts(
    listed: None, query: dict[str, str], mistakes: list[str]
) -> None:
    status, answer = await ask("size", SIZE | {"sizing": "fixed"} | query)
    assert (status, [each["mistake"] for each in answer["mistakes"]]) == (200, mistakes)

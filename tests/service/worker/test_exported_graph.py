"""The rules for a workflow that a client exported."""

import json
from pathlib import Path
from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.worker.exported_graph import (
    HOW_TO_EXPORT,
    NodeFacts,
    allows,
    check_allowed,
    check_classes,
    check_paths,
    leads_out,
    move_outputs,
    named_files,
    reachable,
    read_graph,
    use_images,
)

WORKFLOWS = Path(__file__).resolve().parents[3] / "workflows"
FACTS = {
    "LoadImage": NodeFacts(False, frozenset({"image"}), frozenset(), frozenset()),
    "LoadVideo": NodeFacts(False, frozenset(), frozenset({"file"}), frozenset()),
    "SaveImage": NodeFacts(True, frozenset(), frozenset(), frozenset()),
    "Text": NodeFacts(False, frozenset(), frozenset(), frozenset({"text"})),
}


def graph(**nodes: tuple[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return read_graph({key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()})


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(JobError) as caught:
        call(*arguments)
    return str(caught.value)


def test_bundled_exports_are_read_as_they_are():
    for path in sorted((WORKFLOWS / "api").glob("*.json")):
        exported = json.loads(path.read_text())
        assert read_graph(exported) == exported


def test_reading_keeps_nodes_alone_and_changes_nothing():
    given = {
        "1": {"class_type": "A", "is_changed": ["x"], "_meta": {"title": " "}},
        "2:5": {"class_type": "B", "inputs": {"a": 1}},
    }
    before = json.dumps(given)
    assert read_graph(given) == {
        "1": {"class_type": "A", "inputs": {}, "_meta": {"title": "A"}},
        "2:5": {"class_type": "B", "inputs": {"a": 1}, "_meta": {"title": "B"}},
    }
    read_graph(given)["2:5"]["inputs"]["a"] = 2
    assert json.dumps(given) == before


def test_editors_format_is_told_how_to_export():
    editors = json.loads((WORKFLOWS / "wan22_i2v_4step.json").read_text())
    expected = (
        f"INVALID_VALUE: workflow has the editor's own format, which ComfyUI cannot run; {HOW_TO_EXPORT} (workflow)"
    )
    assert refusal(read_graph, editors) == expected


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "workflow must be an object of nodes by their ids"),
        ([], "workflow must be an object of nodes by their ids"),
        ({"prompt": {"1": {"class_type": "A", "inputs": {}}}}, "node prompt of workflow has no class_type"),
        ({"1": None}, "node 1 of workflow has no class_type"),
        ({"1": {"class_type": 5}}, "node 1 of workflow has no class_type"),
        ({"1": {"class_type": "A", "inputs": []}}, "node 1 of workflow has inputs that are no object"),
    ],
)
def test_what_is_no_graph(given, what):
    assert refusal(read_graph, given) == f"INVALID_VALUE: {what}; {HOW_TO_EXPORT} (workflow)"


def test_too_many_nodes():
    many = {str(number): {"class_type": "A"} for number in range(1001)}
    assert refusal(read_graph, many) == "INVALID_VALUE: workflow has 1001 nodes, at most 1000 are taken (workflow)"


def test_facts_of_a_class():
    """As ComfyUI 0.30.0 tells of them, in both of its forms."""
    info = {
        "output_node": False,
        "input": {
            "required": {
                "image": [["a.png"], {"image_upload": True}],
                "file": ["COMBO", {"options": [], "video_upload": True}],
                "kept": [[], {"image_upload": True, "image_folder": "output"}],
                "text": ["STRING", {"multiline": True}],
                "clip": ["CLIP"],
            },
            "optional": {"audio": ["COMBO", {"audio_upload": True}], "name": ["STRING", {}]},
        },
    }
    expected = NodeFacts(False, frozenset({"image"}), frozenset({"file", "audio"}), frozenset({"text"}))
    assert NodeFacts.of(info) == expected
    assert NodeFacts.of({"output_node": True}).is_output
    assert not NodeFacts.of({}).is_output


@pytest.mark.parametrize(
    ("patterns", "allowed", "refused"),
    [
        ("*", ["A", "a b"], []),
        ("", [], ["A"]),
        ("WanRelay_*, VAE*", ["WanRelay_Sample", "VAELoader"], ["LoadImage", "wanrelay_sample"]),
        ("*, !CheckpointSave, ! *Loader", ["LoadImage"], ["CheckpointSave", "VAELoader"]),
        ("!X", [], ["X", "Y"]),
    ],
)
def test_lists_of_patterns(patterns, allowed, refused):
    assert [name for name in [*allowed, *refused] if allows(patterns, name)] == allowed


def test_what_a_request_may_use():
    made = graph(
        a=("UNETLoader", {"unet_name": "x/secret.safetensors", "steps": 4}), b=("Bad", {"text": "Bad.safetensors 1"})
    )
    check_allowed(made, "*", "*")
    assert refusal(check_allowed, made, "*, !Bad", "*") == (
        "INVALID_VALUE: this worker takes no Bad in a request's workflow (node Bad) (workflow)"
    )
    assert refusal(check_allowed, made, "*, !Bad", "wan*") == (
        "INVALID_VALUE: this worker takes no x/secret.safetensors in a request's workflow "
        "(node UNETLoader, input unet_name); and 1 more fault (workflow)"
    )


def test_classes_that_are_missing():
    made = graph(a=("A", {}), b=("B", {}), c=("C", {}), d=("B", {}))
    check_classes(made, ["A", "B", "C"])
    assert refusal(check_classes, made, ["A"]) == (
        "NODE_MISSING: this worker's ComfyUI has no node B (node B); and 1 more fault"
    )


@pytest.mark.parametrize(
    ("text", "outside", "outside_as_prose"),
    [
        ("/etc/passwd", True, True),
        ("  /etc/passwd", True, True),
        ("C:\\x.png", True, True),
        ("c:/x.png", True, True),
        ("~/x.png", True, True),
        ("~root/x.png", True, True),
        ("file:///x", True, True),
        ("..", True, True),
        ("a/../../b", True, True),
        ("a\\..\\b", True, True),
        ("a/ .. /b c", True, False),
        ("/my pictures/x.png", True, False),
        ("walks away ../ slowly", False, False),
        ("video/wan_relay", False, False),
        ("sub\\x.safetensors", False, False),
        ("...", False, False),
        ("a..b", False, False),
        ("/", False, False),
        ("", False, False),
        (r"\d+", False, False),
        ("16:9", False, False),
        ("https://example.com/x", False, False),
    ],
)
def test_texts_that_lead_out(text, outside, outside_as_prose):
    assert (leads_out(text, False), leads_out(text, True)) == (outside, outside_as_prose)


def test_paths_in_every_kind_of_value():
    fine = graph(
        a=("Text", {"text": "a /b ../c, and more", "other": ["/etc", 0]}),
        b=("LoadImage", {"image": "photo.png [input]", "list": ["x"], "on": True}),
    )
    check_paths(fine, FACTS)
    bad = graph(
        a=("Text", {"other": {"deep": ["x", {"er": "../y"}]}}),
        b=("LoadImage", {"image": "photo.png [output]"}),
        c=("LoadVideo", {"file": "photo.mp4[temp] "}),
        d=("LoadVideo", {"file": "/x", "more": "/y"}),
        e=("SaveImage", {"folder_name": "set", "filename_prefix": ["a", 0]}),
    )
    first = "INVALID_PATH: other must not lead out of the job's folders (node Text)"
    assert refusal(check_paths, bad, FACTS) == f"{first}; and 5 more faults"
    for kept in "abcde":
        assert refusal(check_paths, {kept: bad[kept]}, FACTS).startswith("INVALID_PATH: ")


def test_outputs_are_moved_below_the_jobs_folder():
    made = graph(
        plain=("SaveImage", {"filename_prefix": "ComfyUI"}),
        deep=("SaveImage", {"filename_prefix": " /video/x/ "}),
        empty=("SaveImage", {"filename_prefix": ""}),
        dataset=("SaveImage", {"folder_name": "set", "filename_prefix": "image"}),
        lora=("SaveImage", {"prefix": "loras/mine"}),
        linked=("SaveImage", {"filename_prefix": ["1", 0]}),
        text=("Text", {"filename_prefix": "stays", "prefix": "stays"}),
    )
    move_outputs(made, FACTS, "wan_relay_t")
    assert {key: node["inputs"] for key, node in made.items()} == {
        "plain": {"filename_prefix": "wan_relay_t/ComfyUI"},
        "deep": {"filename_prefix": "wan_relay_t/video/x"},
        "empty": {"filename_prefix": "wan_relay_t/ComfyUI"},
        "dataset": {"folder_name": "wan_relay_t/set", "filename_prefix": "image"},
        "lora": {"prefix": "wan_relay_t/loras/mine"},
        "linked": {"filename_prefix": ["1", 0], "wan_relay_job": "wan_relay_t"},
        "text": {"filename_prefix": "stays", "prefix": "stays"},
    }


def test_pictures_of_the_job_and_those_of_the_volume():
    made = graph(
        a=("LoadImage", {"image": "a.png"}),
        b=("LoadImage", {"image": "sub/b.png [input]"}),
        c=("Text", {"picture": "a.png", "text": "a.png is nice"}),
        d=("LoadVideo", {"file": "d.mp4"}),
        e=("LoadImage", {"image": ["c", 0]}),
        f=("LoadVideo", {"file": "none"}),
        g=("SaveImage", {"a": ["a", 0], "b": ["b", 0], "d": ["d", 0], "e": ["e", 0], "f": ["f", 0], "gone": ["x", 0]}),
        unlinked=("LoadImage", {"image": "gone.png", "loop": ["unlinked", 0]}),
    )
    assert reachable(made, FACTS) == set("abcdefg")
    assert use_images(made, {"a.png": "own_1.png", "unused.png": "own_2.png"}) == {"a.png"}
    assert made["a"]["inputs"] == {"image": "own_1.png"}
    assert made["c"]["inputs"] == {"picture": "own_1.png", "text": "a.png is nice"}
    found = [
        (file.node_id, file.input_name, file.name, file.is_picture) for file in named_files(made, FACTS, ["own_1.png"])
    ]
    assert found == [("b", "image", "sub/b.png", True), ("d", "file", "d.mp4", False)]

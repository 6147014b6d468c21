"""ComfyUI's own answers, as 0.30.0 gives them, in the worker's words: row 41 of the list of bad inputs."""

import json
from pathlib import Path
from typing import Any

import pytest
from wan_relay.service.worker.comfyui.failures import failed_execution, node_title, refused_prompt

WORKFLOWS = Path(__file__).resolve().parents[4] / "workflows" / "api"
GRAPH = json.loads((WORKFLOWS / "wan22_i2v_4step.json").read_text())
IDS = {node["class_type"]: key for key, node in GRAPH.items()}


def refused(class_type: str, *faults: dict[str, Any]) -> str:
    error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""}
    node = {"errors": list(faults), "dependent_outputs": ["8"], "class_type": class_type}
    return str(refused_prompt({"error": error, "node_errors": {IDS[class_type]: node}}, GRAPH))


def fault(kind: str, name: str, details: str, message: str = "m", **extra: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": {"input_name": name, **extra}}


@pytest.mark.parametrize(
    ("class_type", "given", "sentence"),
    [
        (
            "VAELoader",
            fault("value_not_in_list", "vae_name", "vae_name: 'v' not in ['a']", received_value="sub/v.safetensors"),
            "MODEL_MISSING: sub/v.safetensors is not on this worker (node VAE, input vae_name)",
        ),
        (
            "WanRelay_LoadExperts",
            fault(
                "custom_validation_failed", "high_noise", "high_noise - high_noise: 'n.safetensors' not in ['a', 'b']"
            ),
            "MODEL_MISSING: n.safetensors is not on this worker (node Wan Relay: Load Experts, input high_noise)",
        ),
        (
            "VAELoader",
            fault(
                "value_not_in_list",
                "vae_name",
                "vae_name: 'sub\\\\wan_2.1_vae.safetensors' not in ['a', 'sub/wan_2.1_vae.safetensors']",
                input_config=[["a", "sub/wan_2.1_vae.safetensors"], {}],
                received_value="sub\\wan_2.1_vae.safetensors",
            ),
            "MODEL_MISSING: sub\\wan_2.1_vae.safetensors is not on this worker, where the closest name is "
            "sub/wan_2.1_vae.safetensors (node VAE, input vae_name)",
        ),
        (
            "VAELoader",
            fault(
                "value_not_in_list",
                "vae_name",
                "vae_name: 'wan_2.1_vae' not in (list of length 21)",
                input_config=None,
                received_value="wan_2.1_vae",
            ),
            "MODEL_MISSING: wan_2.1_vae is not on this worker (node VAE, input vae_name)",
        ),
        (
            "WanRelay_EncodePrompts",
            fault(
                "custom_validation_failed",
                "text_encoder",
                "text_encoder - text_encoder: 'nope.safetensors' not in ['toy.safetensors']",
            ),
            "MODEL_MISSING: nope.safetensors is not on this worker "
            "(node Wan Relay: Encode Prompts, input text_encoder)",
        ),
        (
            "WanRelay_LoadExperts",
            fault(
                "custom_validation_failed",
                "low_noise",
                "low_noise - low_noise: 'n.safetensors' not in (list of length 21)",
            ),
            "MODEL_MISSING: n.safetensors is not on this worker (node Wan Relay: Load Experts, input low_noise)",
        ),
        (
            "WanRelay_LoadExperts",
            fault(
                "custom_validation_failed",
                "low_noise",
                "low_noise - low_noise: 'wan22\\low.sft' not in (list of length 21); the closest name there is "
                "'wan22/low.sft'",
            ),
            "MODEL_MISSING: wan22\\low.sft is not on this worker, where the closest name is wan22/low.sft "
            "(node Wan Relay: Load Experts, input low_noise)",
        ),
        (
            "WanRelay_LoadExperts",
            fault(
                "custom_validation_failed",
                "high_noise",
                "high_noise - high_noise: 'n.sft' not in ['m.sft']; the closest name there is 'm.sft'",
            ),
            "MODEL_MISSING: n.sft is not on this worker, where the closest name is m.sft "
            "(node Wan Relay: Load Experts, input high_noise)",
        ),
        (
            "WanRelay_LoadExperts",
            fault("custom_validation_failed", "high_noise", "high_noise - low_noise: a holds the same weights as b."),
            "MODEL_REFUSED: low_noise: a holds the same weights as b (node Wan Relay: Load Experts)",
        ),
        (
            "WanRelay_Sample",
            fault(
                "value_not_in_list", "sampler", "sampler: 'bogus' not in (list of length 44)", received_value="bogus"
            ),
            "INVALID_VALUE: sampler must be one that this worker's ComfyUI knows, got bogus (sampler)",
        ),
        (
            "WanRelay_Sample",
            fault("custom_validation_failed", "steps", "steps - switch_step must be between 0 and 2, not 9."),
            "INVALID_VALUE: switch_step must be between 0 and 2, not 9 (node Wan Relay: Sample) (switch_step)",
        ),
        (
            "WanRelay_SaveVideo",
            fault("value_bigger_than_max", "crf", "crf", "Value 99 bigger than max of 63"),
            "OUT_OF_RANGE: Value 99 bigger than max of 63 (node Wan Relay: Save Video) (crf)",
        ),
        (
            "VAEDecode",
            fault("return_type_mismatch", "vae", "vae, received_type(X)", "Return type mismatch between linked nodes"),
            "INVALID_INPUT: Return type mismatch between linked nodes: vae, received_type(X) "
            "(node VAE Decode, input vae)",
        ),
    ],
)
def test_refused_prompt(class_type, given, sentence):
    assert refused(class_type, given) == sentence


def test_refusal_without_a_node():
    missing = {
        "type": "missing_node_type",
        "message": "m",
        "extra_info": {"node_id": "1", "class_type": "WanRelay_Sample"},
    }
    expected = "NODE_MISSING: this worker's ComfyUI has no node WanRelay_Sample"
    assert str(refused_prompt({"error": missing, "node_errors": {}}, GRAPH)) == expected
    for body in ({}, {"error": "text"}, {"error": None, "node_errors": None}):
        assert str(refused_prompt(body, GRAPH)).startswith("INVALID_INPUT: ComfyUI refused the workflow: ")


def test_failure_of_an_unknown_node_with_an_endless_message():
    message = {"node_id": "99:4", "exception_type": "ValueError", "exception_message": "\n\n" + "long " * 1000}
    sentence = str(failed_execution(message, GRAPH))
    assert sentence.startswith("EXECUTION_FAILED: long long")
    assert len(sentence) < 700
    assert str(failed_execution({}, GRAPH)) == "EXECUTION_FAILED: no reason given (node unknown)"


FOREIGN = {
    "1": {"class_type": "UNETLoader", "inputs": {}, "_meta": {"title": "High"}},
    "2": {"class_type": "KSampler", "inputs": {"width": ["1", 0], "height": 64, "length": 5}, "_meta": {"title": "KS"}},
}


def refused_foreign(*given: tuple[str, dict[str, Any]]) -> str:
    errors: dict[str, Any] = {}
    for node_id, each in given:
        class_type = FOREIGN[node_id]["class_type"]
        errors.setdefault(node_id, {"errors": [], "class_type": class_type})["errors"].append(each)
    return str(refused_prompt({"error": {"type": "x"}, "node_errors": errors}, FOREIGN))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            fault("value_not_in_list", "unet_name", "d", received_value="a/b.safetensor.GGUF", input_config=None),
            "MODEL_MISSING: a/b.safetensor.GGUF is not on this worker (node High, input unet_name)",
        ),
        (
            fault(
                "value_not_in_list",
                "unet_name",
                "d",
                received_value="wan_high.safetensors",
                input_config=["COMBO", {"options": ["wan_low_1.sft", "x/wan_high.safetensors", 5]}],
            ),
            "MODEL_MISSING: wan_high.safetensors is not on this worker, where the closest name is "
            "x/wan_high.safetensors (node High, input unet_name)",
        ),
        (
            fault("value_not_in_list", "weight_dtype", "d", received_value="fp3"),
            "INVALID_VALUE: weight_dtype must be one that this worker's ComfyUI knows, got fp3 "
            "(node High, input weight_dtype)",
        ),
        (
            fault("value_smaller_than_min", "steps", "steps", "Value 0 smaller than min of 1"),
            "OUT_OF_RANGE: Value 0 smaller than min of 1 (node High, input steps)",
        ),
        (
            fault("required_input_missing", "model", "model", "Required input is missing"),
            "INVALID_INPUT: Required input is missing (node High, input model)",
        ),
    ],
)
def test_refusal_of_a_node_of_the_clients_own(given, sentence):
    assert refused_foreign(("1", given)) == sentence


def test_first_of_several_refusals_says_how_many_more():
    missing = fault("required_input_missing", "model", "model", "Required input is missing")
    another = fault("required_input_missing", "vae", "vae", "Required input is missing")
    first = "INVALID_INPUT: Required input is missing (node High, input model)"
    assert refused_foreign(("1", missing), ("2", missing)) == f"{first}; and 1 more fault"
    assert refused_foreign(("1", missing), ("1", another), ("2", missing)) == f"{first}; and 2 more faults"
    assert refused_foreign(("2", another), ("1", missing)) == f"{first}; and 1 more fault"  # by the workflow's order


def test_check_of_a_whole_node_counts_once():
    """ComfyUI tells of it under each input that the check looks at."""
    said = "high_noise: 'n.safetensors' not in ['a']"
    faults = [fault("custom_validation_failed", name, f"{name} - {said}") for name in ("low_noise", "high_noise")]
    assert refused("WanRelay_LoadExperts", *faults) == (
        "MODEL_MISSING: n.safetensors is not on this worker (node Wan Relay: Load Experts, input high_noise)"
    )


@pytest.mark.parametrize(
    ("length", "inputs", "size"),
    [
        (161, {}, "528 x 768 x 81"),
        (161, {"lengths": "49, 113"}, "528 x 768 x 113"),
        (33, {}, "528 x 768 x 33"),
        (161, {"lengths": ["9", 0]}, "this job"),
        (161, {"segment_length": ["9", 0]}, "this job"),
        (["9", 0], {"lengths": "49, 113"}, "528 x 768 x 113"),
    ],
)
def test_size_of_a_long_video_is_that_of_one_pass(length: Any, inputs: dict[str, Any], size: str) -> None:
    graph = json.loads((WORKFLOWS / "wan22_i2v_long.json").read_text())
    graph["5"]["inputs"]["length"] = length
    graph["7"]["inputs"] |= inputs
    message = {"node_id": "7.0.0.2.6", "exception_type": "torch.OutOfMemoryError", "exception_message": "x"}
    assert failed_execution(message, graph).sentence == (
        f"{size} does not fit the GPU; lower the size or the length (node Wan Relay: Sample)"
    )


def test_size_that_comes_over_a_link_is_not_named():
    message = {"node_id": "2", "exception_type": "torch.OutOfMemoryError", "exception_message": "x"}
    expected = "OUT_OF_MEMORY: this job does not fit the GPU; lower the size or the length (node KS)"
    assert str(failed_execution(message, FOREIGN)) == expected


@pytest.mark.parametrize(
    ("node_id", "title"),
    [
        ("7", "Long"),
        ("7.0.0.2.6", "Sample"),
        ("7.0.0.2.12:6", "Inner"),
        ("7.0.0.2.segment", "Long"),
        ("9.0.0.2.6", "Sample"),
        ("6:0.0.1", "Sample"),
        ("no", "unknown"),
    ],
)
def test_a_copy_for_a_segment_has_the_title_of_its_node(node_id: str, title: str) -> None:
    titles = {"6": "Sample", "7": "Long", "12:6": "Inner"}
    graph = {name: {"class_type": "C", "_meta": {"title": words}} for name, words in titles.items()}
    assert node_title(graph, node_id) == title

import pytest
from wan_relay.tools.processes import DevError

pytestmark = [pytest.mark.comfy, pytest.mark.server]


def two_videos_of_one_picture(prefix: str) -> dict:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 5, "color": 0xFF0000}},
        **{
            node: {
                "class_type": "WanRelay_SaveVideo",
                "inputs": {
                    "images": ["1", 0],
                    "fps": 16,
                    "filename_prefix": f"{prefix}/{node}",
                    "format": "mp4 h264",
                    "crf": 19,
                    "bit_depth": "8",
                },
            }
            for node in ("8", "9")
        },
    }


def test_an_identical_prompt_gives_a_file_also_when_the_first_was_deleted(comfy_server):
    folder = comfy_server.base / "output" / "cached"
    workflow = two_videos_of_one_picture("cached")

    def run() -> dict[str, str]:
        outputs = comfy_server.run(workflow, timeout_s=120)["outputs"]
        return {node: outputs[node]["images"][0]["filename"] for node in ("8", "9")}

    first = run()
    assert first == {"8": "8_00001_.mp4", "9": "9_00001_.mp4"}
    assert run() == first, "served from the cache"
    assert sorted(path.name for path in folder.iterdir()) == ["8_00001_.mp4", "9_00001_.mp4"]
    (folder / "9_00001_.mp4").unlink()
    assert run() == first, "the missing file is written again, the other one comes from the cache"
    assert sorted(path.name for path in folder.iterdir()) == ["8_00001_.mp4", "9_00001_.mp4"]


def test_an_api_client_names_a_file_by_what_the_nodes_hold(comfy_server):
    workflow = two_videos_of_one_picture("unused")
    workflow["1"]["_meta"] = {"title": "Red picture"}
    workflow["8"]["inputs"]["filename_prefix"] = "%Red picture.color%/%EmptyImage.batch_size%_%SaveVideo.crf%_%width%"
    workflow["9"]["inputs"]["filename_prefix"] = "%Red picture.nothing%_%Green picture.color%"
    outputs = comfy_server.run(workflow, timeout_s=120)["outputs"]
    saved = {node: outputs[node]["images"][0] for node in ("8", "9")}
    assert {node: (item["subfolder"], item["filename"]) for node, item in saved.items()} == {
        "8": (str(0xFF0000), "5_19_64_00001_.mp4"),
        "9": ("", "%Red picture.nothing%_%Green picture.color%_00001_.mp4"),
    }


def test_a_name_that_cannot_be_saved_is_refused_before_the_run(comfy_server):
    workflow = two_videos_of_one_picture("夜" * 86)
    del workflow["9"]
    with pytest.raises(DevError) as raised:
        comfy_server.run(workflow, timeout_s=120)
    sentence = f"filename_prefix must have folder names of at most 255 bytes; got one of 258, '{'夜' * 40}'."
    assert sentence in str(raised.value)

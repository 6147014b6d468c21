"""Join Clips and Add Segment as nodes: schema, whole tensors, reports."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
import pytest
import torch
from wan_relay.nodes.add_segment import AddSegment
from wan_relay.nodes.join_clips import JoinClips
from wan_relay.nodes.rules.errors import InvalidInput

pytestmark = pytest.mark.comfy


@pytest.fixture(autouse=True)
def temp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path))


@pytest.fixture(scope="module")
def vae(toy_models: Path) -> comfy.sd.VAE:
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(toy_models / "vae" / "toy_wan_2.1_vae.safetensors")))


def test_three_clips_give_the_video_that_they_were_cut_from() -> None:
    whole = torch.rand(25, 12, 16, 3, generator=torch.Generator().manual_seed(1))
    clips = {f"clip_{index}": whole[8 * index : 8 * index + 9] for index in range(3)}
    output = JoinClips.execute(clips, 1, "drop", True)
    torch.testing.assert_close(output.args[0], whole, rtol=0, atol=1e-5)
    (report,) = output.ui["wan_relay"]
    assert (report["length"], report["warnings"]) == (25, [])
    assert report["gain"] == [[1.0] * 3] * 2
    cut = JoinClips.execute({"clip_0": whole[:9], "clip_1": whole[12:21]}, 1, "drop", True)
    assert cut.ui["wan_relay"][0]["warnings"] == [
        "The frames that two clips share do not show the same, so their colours were not matched."
    ]


def test_clips_grow_one_by_one() -> None:
    (options,) = [
        spec[1] for name, spec in JoinClips.GET_NODE_INFO_V1()["input"]["required"].items() if name == "clips"
    ]
    assert {key: options["template"][key] for key in ("prefix", "min", "max")} == {
        "prefix": "clip_",
        "min": 2,
        "max": 100,
    }


def add(vae: comfy.sd.VAE, latent: torch.Tensor, **inputs: Any) -> Any:
    defaults = {"overlap": 1, "join": "drop", "match_colour": False, "finish": True}
    with torch.inference_mode():
        return AddSegment.execute({"samples": latent}, vae, **(defaults | inputs))


def test_segments_are_what_the_vae_decodes_one_after_the_other(vae: comfy.sd.VAE) -> None:
    latents = torch.randn(2, 1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        first, second = (vae.decode(latent)[0] for latent in latents)
    reports = [json.dumps({"seed": seed, "steps": 4, "seconds": {"high_noise": seed / 2}}) for seed in (5, 6)]
    one = add(vae, latents[0], report=reports[0], finish=False)
    segments, tail, settled, _ = one.args
    torch.testing.assert_close(tail, first[-1:])
    torch.testing.assert_close(settled, first[:-1])
    two = add(vae, latents[1], report=reports[1], previous=segments)
    torch.testing.assert_close(two.args[2], torch.cat([first, second[1:]]))
    report = json.loads(two.args[3])
    assert (report["seed"], report["steps"]) == (5, 4)
    assert [(segment["length"], segment["seed"], segment["seconds"]) for segment in report["segments"]] == [
        (9, 5, {"high_noise": 2.5}),
        (9, 6, {"high_noise": 3.0}),
    ]
    assert two.ui["wan_relay"][0]["segment"] == 2


class Expanded:
    """What ComfyUI tells of a graph that a node expanded to."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def all_node_ids(self) -> list[str]:
        return self.names

    def get_parent_node_id(self, name: str) -> str | None:
        return "12" if "." in name else None

    def get_node(self, name: str) -> dict[str, str]:
        return {"class_type": "WanRelay_AddSegment"}


@pytest.mark.parametrize(("own", "shown"), [("12.0.0.2.segment", [("12", 2, 2)]), ("12.0.0.34", []), ("7", [])])
def test_progress_is_long_videos_alone(own: str, shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    class Bar:
        def __init__(self, total: int, node_id: str) -> None:
            self.total, self.node_id = total, node_id

        def update_absolute(self, value: int) -> None:
            bars.append((self.node_id, value, self.total))

    monkeypatch.setattr(comfy.utils, "ProgressBar", Bar)
    hidden = SimpleNamespace(dynprompt=Expanded(["7", "12", "12.0.0.1.segment", own]), unique_id=own)
    monkeypatch.setattr(AddSegment, "hidden", hidden)
    AddSegment._show_progress()
    assert bars == shown


def test_a_batch_is_refused(vae: comfy.sd.VAE) -> None:
    with pytest.raises(InvalidInput) as refused:
        add(vae, torch.zeros(2, 16, 3, 4, 4))
    assert str(refused.value) == (
        "latent must be one video, [1, channels, frames, height, width]; got [2, 16, 3, 4, 4]."
    )


def test_colours_are_brought_to_the_first_frame_where_that_is_asked_for(vae: comfy.sd.VAE) -> None:
    picture = 0.3 + 0.3 * torch.rand(12, 16, 3, generator=torch.Generator().manual_seed(3))
    darker = picture * torch.linspace(1, 0.96, 9).view(-1, 1, 1, 1)
    clips = {"clip_0": darker, "clip_1": darker * 0.96}
    output = JoinClips.execute(clips, 1, "drop", True, "first frame")
    assert (output.args[0].mean(dim=(1, 2)) - picture.mean(dim=(0, 1))).abs().max() < 0.001
    (report,) = output.ui["wan_relay"]
    assert [len(report[name]) for name in ("gain", "end_gain", "end_offset")] == [1, 2, 2]
    assert report["end_gain"][1][0] > report["end_gain"][0][0] > 1.05
    before = JoinClips.execute(clips, 1, "drop", True)
    assert (before.args[0][-1] - picture).mean() < -0.02
    assert "end_gain" not in before.ui["wan_relay"][0]

    off = JoinClips.execute(clips, 1, "drop", False, "first frame")
    assert off.ui["wan_relay"][0]["warnings"] == ["colour_reference has no effect, because match_colour is off."]
    latent = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * 0.02
    added = add(vae, latent, match_colour=True, colour_reference="first frame").ui["wan_relay"][0]
    assert ("end_gain" in added, added["warnings"]) == (True, [])
    with pytest.raises(InvalidInput, match="colour_reference must be one of clip before, first frame; got 'start'"):
        add(vae, latent, colour_reference="start")

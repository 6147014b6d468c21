"""The GPU benchmark runs whole at toy size on the CPU, so that nobody rents a GPU for a script that stops."""

import math

import pytest

pytestmark = pytest.mark.comfy


def test_every_figure_comes_at_toy_size(capsys: pytest.CaptureFixture[str]) -> None:
    from wan_relay.bench.gpu import TOY_PLAN, measure, weight_types
    from wan_relay.nodes.node_list import NODES

    rows = measure(TOY_PLAN)
    names = [row.what for row in rows]
    clips = [clip[0] for clip in TOY_PLAN.clips]
    for weights in weight_types():
        for clip in clips:
            for what in ("a step, high noise", "a step, low noise", "hand-over"):
                assert f"{weights} {clip}: {what}" in names
        assert f"{weights}: LoRA on a loaded expert" in names
    assert [f"{clip}: VAE decode" in names and f"{clip}: save h264 from cpu" in names for clip in clips] == [True] * 2
    has_nag = any(node.GET_SCHEMA().node_id == "WanRelay_ApplyNag" for node in NODES)
    assert has_nag == any("NAG" in name for name in names) != ("not measured: NAG" in capsys.readouterr().out)
    assert all(math.isfinite(row.seconds) and row.seconds >= 0 for row in rows)
    steps = [row for row in rows if row.floor_s is not None]
    assert all(row.seconds > 0 and row.beside_s and row.floor_s for row in steps)


def test_the_clock_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    from wan_relay.bench.gpu import TOY_PLAN, measure

    assert measure(TOY_PLAN, limit_s=-1) == []
    assert "not measured for want of time" in capsys.readouterr().out


def test_the_roofline_is_that_of_the_published_arithmetic() -> None:
    """PFLOP of one forward pass of A14B at 81 frames, counted independently for the reference's own shapes."""
    from wan_relay.bench.gpu import REAL_PLAN
    from wan_relay.bench.relay import forward_flops

    counted = {"832x480x81": 1.678e15, "1280x720x81": 6.523e15}
    for name, width, height, frames in REAL_PLAN.clips:
        flops = forward_flops(REAL_PLAN.expert, (1, 16, (frames - 1) // 4 + 1, height // 8, width // 8))
        assert flops == pytest.approx(counted[name], rel=2e-3)

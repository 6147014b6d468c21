import pytest
from wan_relay.nodes.rules.relay.official_schedules import official_dpmpp_sigmas, official_unipc_sigmas
from wan_relay.tests.golden_schedules import CASES

MAKERS = {
    "official_unipc": official_unipc_sigmas,
    "official_dpm++": official_dpmpp_sigmas,
    "lightning_euler": official_dpmpp_sigmas,  # the distilled models' schedule is the reference's second one
}


@pytest.mark.parametrize("scheduler", MAKERS)
def test_every_sigma_is_the_references(scheduler: str) -> None:
    cases = [case for case in CASES if case.scheduler == scheduler]
    assert len(cases) >= 9
    for case in cases:
        assert MAKERS[scheduler](case.steps, case.shift) == pytest.approx(case.sigmas, abs=1e-6), case[:3]


def test_the_four_sigmas_that_distilled_models_were_trained_on() -> None:
    assert official_dpmpp_sigmas(4, 5.0) == pytest.approx([1, 0.9375, 0.833333, 0.625, 0], abs=1e-6)
    assert official_unipc_sigmas(4, 5.0) == pytest.approx([0.9998, 0.937265, 0.833055, 0.624687, 0], abs=1e-6)

"""A sampler's steps, counted over all segments of a long video."""

from wan_relay.service.worker.sampler_steps import SamplerStep, SamplerSteps


def test_steps_run_over_all_segments_with_the_switch_of_each() -> None:
    sampler = SamplerSteps("6", "7", switch_step=2, opening_steps=1)
    assert not sampler.are_segments("8", 5)
    assert sampler.are_segments("7", 2)
    made = [sampler.at(node, step, 4) for node, step in (("7.0.0.1.6", 1), ("7.0.0.2.6", 3), ("7.0.0.2.6", 4))]
    assert made == [SamplerStep(1, 8, 2, 1), SamplerStep(7, 8, 6, 5), SamplerStep(8, 8, 6, 5)]
    assert [step.is_last for step in made if step] == [False, False, True]
    assert sampler.at("7.0.0.2.5", 1, 4) is None


def test_one_pass_and_a_bar_that_was_lost() -> None:
    assert SamplerSteps("6", None).at("6", 4, 4) == SamplerStep(4, 4, None, 0)
    assert SamplerSteps("6", "7", switch_step=2).at("7.0.0.2.6", 1, 4) == SamplerStep(5, 8, 6, 0)

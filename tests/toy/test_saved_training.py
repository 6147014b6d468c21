"""Training that is cut off and goes on ends where an uncut one does."""

import pytest
import torch
from wan_relay.toy.training.saved_training import resume, train_steps

INPUTS = torch.randn(20, 8, 4, generator=torch.Generator().manual_seed(1))


def trained(path, until: int) -> torch.nn.Module:
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 1)
    groups = [{"params": [network.weight], "lr": 0.1}, {"params": [network.bias], "lr": 0.01}]
    optimizer = torch.optim.AdamW(groups)
    steps = range(resume(path, network, optimizer), until)
    train_steps(path, network, optimizer, steps, lambda step: 1 - step / 20, lambda step: network(INPUTS[step]).var())
    return network


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_a_cut_training_ends_where_an_uncut_one_does(tmp_path, cut):
    whole = trained(tmp_path / "whole.pt", 20)
    half = trained(tmp_path / "cut.pt", cut)
    resumed = trained(tmp_path / "cut.pt", 20)
    assert not torch.equal(half.weight, whole.weight)
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.bias, whole.bias)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pt", "whole.pt"]


def test_a_finished_training_is_left_as_it_is(tmp_path):
    whole = trained(tmp_path / "whole.pt", 20)
    assert torch.equal(trained(tmp_path / "whole.pt", 20).weight, whole.weight)

"""The optimiser and the schedules of its learning rate."""

import pytest
import torch

from bench.config import preset
from bench.train.optim import adam, learning_rate

CONFIG = preset("quick").training


@pytest.mark.parametrize(
    ("schedule", "update", "progress", "expected"),
    [
        ("inverse_sqrt", 1, 0.0, 0.01),
        ("inverse_sqrt", 100, 0.1, 1.0),
        ("inverse_sqrt", 400, 0.5, 0.5),
        ("linear", 50, 0.05, 0.5),
        ("linear", 100, 0.1, 1.0),
        ("linear", 400, 0.4, 0.6 / 0.9),
        ("linear", 900, 1.0, 0.0),
    ],
)
def test_learning_rate(schedule, update, progress, expected):
    config = CONFIG.model_copy(update={"schedule": schedule, "learning_rate": 1.0, "warmup_updates": 100})
    assert learning_rate(config, update, progress) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "linear"])
def test_a_stage_of_half_the_budget_reaches_the_peak_in_half_the_updates(schedule):
    config = CONFIG.model_copy(update={"schedule": schedule, "learning_rate": 1.0, "warmup_updates": 100})
    rates = [learning_rate(config, update, update / 500, share=0.5) for update in range(1, 501)]
    assert max(rates) == rates[49] == 1.0
    assert rates[99] < 1.0


def test_weight_decay_is_decoupled():
    parameter = torch.nn.Parameter(torch.tensor([2.0]))
    optimiser = adam([parameter], CONFIG.model_copy(update={"weight_decay": 0.1, "learning_rate": 0.5}))
    parameter.grad = torch.zeros(1)
    optimiser.step()
    assert parameter.item() == pytest.approx(2.0 * (1 - 0.5 * 0.1))

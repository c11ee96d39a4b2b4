"""The training loop: what it delivers, and that a stopped training goes on exactly."""

import pytest
import torch
from trainings import CONFIG, METHODS, StoppedError, TwoStages, make, same, weights

from bench.config import ModelConfig
from bench.toy import STUDENT, TEACHER
from bench.train import checkpoint, trainer
from bench.train.evaluation import DevLoss
from bench.train.trainer import new_network


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_stopped_training_goes_on_and_ends_bit_identically(corpora, tmp_path, monkeypatch, name):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    config = CONFIG.model_copy(update={"target_tokens": 1200})
    whole = make(corpora, tmp_path / "whole", name, config)
    report = whole.train()
    for stop in (2, report.updates // 2, report.updates):
        part = make(corpora, tmp_path / "part", name, config)
        loss, calls = part.method.loss, []

        def stopping(step, loss=loss, calls=calls, stop=stop):
            calls.append(1)
            if len(calls) > stop // 2:
                raise StoppedError
            return loss(step)

        part.method.loss = stopping
        with pytest.raises(StoppedError):
            part.train()
    resumed = make(corpora, tmp_path / "part", name, config)
    again = resumed.train()
    assert same(weights(whole), weights(resumed))
    assert again.history == report.history
    assert (again.updates, again.target_tokens, again.stages) == (report.updates, report.target_tokens, report.stages)


def test_a_finished_training_is_not_repeated(corpora, tmp_path):
    first = make(corpora, tmp_path)
    first.train()
    second = make(corpora, tmp_path)
    second.method.loss = None
    second.train()
    assert same(weights(first), weights(second))


def test_seed_decides_everything(corpora, tmp_path):
    config = CONFIG.model_copy(update={"target_tokens": 500})
    runs = [make(corpora, tmp_path / str(i), config=config, seed=seed) for i, seed in enumerate((1, 1, 2))]
    for run in runs:
        run.train()
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))


def test_budget_counts_target_tokens_and_padding_is_reported(corpora, tmp_path):
    report = make(corpora, tmp_path).train()
    assert CONFIG.target_tokens <= report.target_tokens < CONFIG.target_tokens + CONFIG.batch_tokens
    assert report.epochs == pytest.approx(report.target_tokens / corpora[0].target_tokens)
    assert 0 < report.padding_share < 0.3
    assert len(report.history) == CONFIG.evaluations
    assert [point["tokens"] >= 600 * (i + 1) for i, point in enumerate(report.history)] == [True] * 5


def test_training_learns(corpora, tmp_path):
    config = CONFIG.model_copy(update={"target_tokens": 10_000, "warmup_updates": 100})
    history = make(corpora, tmp_path, config=config, dropout=0.0).train().history
    assert history[-1]["dev_loss"] < 0.8 * history[0]["dev_loss"]


@pytest.mark.parametrize("select", ["loss", "bleu"])
def test_the_best_checkpoint_is_delivered(corpora, tmp_path, select):
    config = CONFIG.model_copy(update={"select": select, "learning_rate": 0.05})
    scores = iter([10.0, 30.0, 20.0, 30.0, 5.0])
    made = make(corpora, tmp_path, config=config, dev_bleu=lambda depth: next(scores))
    report = made.train()
    best = report.history[1] if select == "bleu" else min(report.history, key=lambda point: point["dev_loss"])
    assert report.best_update == best["update"]
    made.network.eval()
    assert made.dev_loss() == (best["dev_loss"], best["dev_nll"])


def test_the_mean_of_the_last_checkpoints_is_delivered(corpora, tmp_path):
    made = make(corpora, tmp_path, config=CONFIG.model_copy(update={"average": 3}))
    seen = []
    evaluate = made.dev_loss

    def spy():
        seen.append(weights(made))
        return evaluate()

    spy.flops = 0.0
    made.dev_loss = spy
    made.train()
    for name, tensor in weights(made).items():
        expected = sum(each[name].double() for each in seen[-3:]) / 3
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)


def test_patience_stops_a_training_that_gets_nowhere(corpora, tmp_path):
    config = CONFIG.model_copy(update={"learning_rate": 1e-30, "patience": 2})
    report = make(corpora, tmp_path, config=config).train()
    assert len(report.history) == 3
    assert report.stages[0]["stopped_early"]
    assert report.target_tokens < CONFIG.target_tokens


def test_dev_loss_is_the_mean_over_the_delivered_depths(corpora, tmp_path):
    method = METHODS["aio_kd"]()
    depths = [delivery.depth for delivery in method.deliveries(STUDENT, TEACHER)]
    made = make(corpora, tmp_path, "aio_kd")
    made.network.eval()
    together = made.dev_loss()
    alone = []
    for depth in depths:
        alone.append(DevLoss(made.student, corpora[1], [depth], made.config, made.group, made.device)())
    assert len(alone) == 3
    assert together == pytest.approx([sum(each) / 3 for each in zip(*alone)])
    assert together.nll != pytest.approx(together.smoothed)


def test_dev_nll_is_the_plain_cross_entropy_whatever_the_recipe_smooths(corpora, tmp_path):
    losses = []
    for smoothing in (0.0, 0.3):
        made = make(corpora, tmp_path, config=CONFIG.model_copy(update={"label_smoothing": smoothing}))
        made.network.eval()
        losses.append(made.dev_loss())
    assert losses[0].nll == losses[0].smoothed == losses[1].nll != losses[1].smoothed
    everything = corpora[1].batch(range(len(corpora[1])))
    with torch.no_grad():
        log_p = made.student.forward(everything).logits.log_softmax(-1)
    assert losses[1].nll == pytest.approx(-log_p[range(everything.tokens), everything.labels].mean().item())


@pytest.mark.parametrize("select", ["loss", "bleu"])
def test_each_evaluation_is_told_with_a_value_that_is_higher_when_better(corpora, tmp_path, select):
    told, scores = [], iter([10.0, 30.0, 20.0, 25.0, 5.0])
    made = make(
        corpora,
        tmp_path,
        config=CONFIG.model_copy(update={"select": select}),
        dev_bleu=lambda depth: next(scores),
        report=lambda *news: told.append(news),
    )
    report = made.train()
    numbers, values = zip(*(news[3] for news in told if len(news) == 4), strict=True)
    assert list(numbers) == list(range(1, len(report.history) + 1))
    values = list(values)
    if select == "bleu":
        assert values == [10.0, 30.0, 20.0, 25.0, 5.0]
    else:
        assert values == [-point["dev_nll"] for point in report.history]
    assert [news[0] for news in told if len(news) == 4][-1] == CONFIG.target_tokens


def test_a_stage_starts_from_the_best_of_the_one_before_with_its_own_schedule(corpora, tmp_path):
    made = make(corpora, tmp_path, method=TwoStages(), config=CONFIG.model_copy(update={"learning_rate": 0.05}))
    report = made.train()
    assert [stage["name"] for stage in report.stages] == ["first", "second"]
    assert report.stages[0]["tokens"] == pytest.approx(0.75 * CONFIG.target_tokens, abs=64)
    first = [point["dev_loss"] for point in report.history if point["stage"] == 0]
    second = [point["dev_loss"] for point in report.history if point["stage"] == 1]
    assert second == [min(first)] * 5
    assert report.history[5]["update"] < report.history[4]["update"]


def test_progress_is_reported_up_to_the_budget(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    told = []
    make(corpora, tmp_path, "aio_kd", report=lambda *news: told.append(news)).train()
    done = [news[0] for news in told]
    assert done == sorted(done)
    assert done[-1] == CONFIG.target_tokens
    assert {news[1] for news in told} == {CONFIG.target_tokens}


def test_dev_bleu_is_the_mean_over_the_delivered_depths(corpora, tmp_path):
    asked = []

    def dev_bleu(depth):
        asked.append(depth)
        return 10.0 * depth.encoder

    config = CONFIG.model_copy(update={"select": "bleu", "evaluations": 1, "target_tokens": 200})
    report = make(corpora, tmp_path, "aio_kd", config, dev_bleu=dev_bleu).train()
    assert [str(depth) for depth in asked] == ["2-2", "3-2", "3-3"] * 2
    assert report.history[0]["dev_bleu"] == pytest.approx(80 / 3)


def test_bf16_stays_close_to_fp32(corpora, tmp_path):
    losses = []
    for precision in ("fp32", "bf16"):
        config = CONFIG.model_copy(update={"precision": precision, "target_tokens": 1500})
        losses.append(make(corpora, tmp_path / precision, "word_level", config).train().history[-1]["dev_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert losses[1] != losses[0]


def test_seconds_are_kept_over_a_resume(corpora, tmp_path):
    first, again = make(corpora, tmp_path), make(corpora, tmp_path)
    first.train()
    again.train()
    assert set(first.ledger.costs) == {"training", "dev evaluation", "checkpointing"}
    assert all(cost.seconds >= 0.5 * first.ledger.costs[name].seconds for name, cost in again.ledger.costs.items())


def test_a_checkpoint_of_another_network_is_refused(corpora, tmp_path):
    made = make(corpora, tmp_path)
    tensors = checkpoint.network_tensors(made.network)
    tensors.popitem()
    with pytest.raises(ValueError, match="checkpoint and network differ"):
        checkpoint.load_network(made.network, tensors)


def test_a_half_written_state_is_not_seen(tmp_path):
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(network.parameters())
    checkpoint.save_state(tmp_path, 1, network, optimiser, {"number": 1})
    (tmp_path / ".state-000000002").mkdir()
    (tmp_path / ".state-000000002" / "progress.json").write_text("{")
    state = checkpoint.latest_state(tmp_path)
    assert checkpoint.read_progress(state) == {"number": 1}
    checkpoint.save_state(tmp_path, 2, network, optimiser, {"number": 2})
    assert checkpoint.read_progress(checkpoint.latest_state(tmp_path)) == {"number": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["state-000000002"]


def test_same_seed_gives_the_same_fresh_network():
    shape = ModelConfig(width=8, ffn=8, heads=2, encoder_layers=1, decoder_layers=1)
    a, b, c = (new_network(shape, 20, seed).state_dict() for seed in (1, 1, 2))
    assert same(a, b)
    assert not same(a, c)

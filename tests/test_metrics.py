"""Further metrics: worked scores, what is refused before any work, and how they come into records later."""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import micro
import pytest
from sacrebleu.metrics import BLEU

from bench import ENGINE, recorder
from bench.errors import UsageError
from bench.measure import metrics as metrics_module
from bench.measure.metrics import Comet, LegacyBleu, chosen_metric
from bench.records import parse_record, read_records
from bench.request import Request
from bench.results import FurtherScore
from bench.run import missing, prepare


def test_legacy_bleu_is_that_of_lower_cased_moses_tokens():
    hypothesis, reference = ["Der Hund läuft, und z.B. die Katze schläft."], ["der Hund läuft und die KATZE schläft ."]
    # By hand: "," and the full stop at the end come off; "z.B." keeps its dots, being an abbreviation in German.
    tokens = ["der hund läuft , und z.b. die katze schläft ."], ["der hund läuft und die katze schläft ."]
    expected = BLEU(tokenize="none", force=True).corpus_score(tokens[0], [tokens[1]]).score
    assert 0 < expected < 100
    assert LegacyBleu("de").scorer("cpu")(["x"], hypothesis, reference) == pytest.approx(expected)


def test_legacy_bleu_splits_no_dashes_and_escapes_nothing():
    bleu = LegacyBleu("en").scorer("cpu")
    assert bleu(["x"], ['a well-known "fact" & more'], ['A WELL-KNOWN " FACT " & MORE']) == pytest.approx(100)
    assert bleu(["x"], ["a b well-known fact"], ["a b well @-@ known fact"]) < 100


def test_legacy_bleu_of_a_perfect_corpus_is_100_and_of_nothing_0():
    bleu = LegacyBleu("xb").scorer("cpu")
    assert bleu(["x"] * 2, ["eins zwei drei vier"] * 2, ["eins zwei drei vier"] * 2) == 100
    assert bleu(["x"], [""], ["eins zwei"]) == 0


def test_the_signature_of_legacy_bleu_names_all_it_depends_on():
    parts = LegacyBleu("de").signature.split("|")
    assert {"nrefs:1", "case:lc", "tok:none", "smooth:exp", "moses:de"} <= set(parts)
    assert any(part.startswith("sacremoses:") and part[-1].isdigit() for part in parts)
    assert any(part.startswith("version:") for part in parts)
    assert LegacyBleu("de").legacy


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A file in unbabel-comet's layout, and a stand-in for the package that says what it was given."""
    path = tmp_path / "model" / "checkpoints" / "model.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    (path.parent.parent / "hparams.yaml").write_text("class_identifier: regression_metric\n")
    seen = []

    class Model:
        def predict(self, samples, **options):
            seen.append((samples, options))
            return SimpleNamespace(system_score=sum(len(each["mt"]) / len(each["ref"]) for each in samples))

    def load_from_checkpoint(file, **options):
        seen.append((file, options))
        return Model()

    monkeypatch.setitem(sys.modules, "comet", SimpleNamespace(load_from_checkpoint=load_from_checkpoint))
    versions = {"unbabel-comet": "2.2.7", "sacremoses": "0.2.0"}
    monkeypatch.setattr(metrics_module, "installed", lambda name: versions.get(name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return SimpleNamespace(path=path, seen=seen, versions=versions)


def test_comet_is_given_triples_and_no_network(checkpoint):
    metric = chosen_metric(f"comet:{checkpoint.path}", "de")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert metric.name == f"comet-{sha256[:8]}"
    assert metric.signature == f"comet|checkpoint:model.ckpt|sha256:{sha256[:12]}|version:2.2.7"
    assert metric.scorer("cpu")(["s"], ["mt"], ["r"]) == 2.0
    (file, loading), (samples, options) = checkpoint.seen
    assert (file, loading) == (str(checkpoint.path), {"local_files_only": True})
    assert samples == [{"src": "s", "mt": "mt", "ref": "r"}]
    assert options == {"batch_size": 16, "progress_bar": False, "num_workers": 0, "gpus": 0}


def test_comet_runs_on_the_gpu_of_its_slot(checkpoint):
    chosen_metric(f"comet:{checkpoint.path}", "de").scorer("cuda:3")(["s"], ["m"], ["r"])
    options = checkpoint.seen[-1][1]
    assert (options["gpus"], options["devices"]) == (1, [3])


def test_another_checkpoint_is_another_metric_and_a_changed_one_is_refused(checkpoint):
    first = chosen_metric(f"comet:{checkpoint.path}", "de")
    checkpoint.path.write_bytes(b"others")
    assert chosen_metric(f"comet:{checkpoint.path}", "de").name != first.name
    with pytest.raises(UsageError, match="changed after the run had started"):
        first.scorer("cpu")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("legacy_bleu", "Did you mean 'legacy-bleu'"),
        ("chrf", "Known: comet:PATH, legacy-bleu"),
        ("comet", "needs a checkpoint"),
        ("comet:", "needs a checkpoint"),
        ("comet:none.ckpt", "no checkpoint 'none.ckpt'"),
    ],
)
def test_what_no_metric_can_be_made_of_is_the_users_error(checkpoint, wanted, message):
    with pytest.raises(UsageError, match=message):
        chosen_metric(wanted, "de")


def test_what_a_metric_lacks_is_said_before_any_work(checkpoint, tmp_path):
    (checkpoint.path.parent.parent / "hparams.yaml").unlink()
    with pytest.raises(UsageError, match=r"no .*hparams.yaml"):
        chosen_metric(f"comet:{checkpoint.path}", "de")
    checkpoint.versions.clear()
    with pytest.raises(UsageError, match="not comet-ml, the tracker"):
        chosen_metric(f"comet:{checkpoint.path}", "de")
    with pytest.raises(UsageError, match="needs sacremoses"):
        prepare(micro.request(tmp_path, metrics=("legacy-bleu",)))
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def copy(finished, tmp_path):
    """Of a copy of the finished run, which may be changed, two rows: the teacher and the plain student."""
    request = micro.copied(finished.request, tmp_path, methods=("baseline",), settings=micro.SETTINGS)
    for path in (request.runs / "records" / "corpus").glob("*.json"):
        if not path.name.startswith(("teacher", "baseline")):
            path.unlink()
    return request


def with_metrics(wanted: Request, *metrics: str) -> Request:
    return replace(wanted, metrics=metrics)


def bare(record) -> dict:
    """A record without what a further metric adds."""
    values = record.model_dump(exclude={"created", "command"})
    values["artifacts"] = {name: key for name, key in values["artifacts"].items() if not name.startswith("metric")}
    for score in values["scores"].values():
        score["further"] = ()
    return values


def test_a_metric_asked_for_later_scores_what_is_there(copy):
    before = micro.records(copy.runs)
    for kind in ("student", "teacher", "text"):
        shutil.rmtree(copy.runs / "artifacts" / kind)  # nothing of these is needed
    accesses = (copy.runs / "test-access.jsonl").read_bytes()
    asked = with_metrics(copy, "legacy-bleu")
    outcome, _ = micro.run_here(asked)
    assert (outcome.trained, outcome.failures, outcome.unscored) == (2, {}, {})
    after = micro.records(copy.runs)
    assert [bare(record) for record in after] == [bare(record) for record in before]
    assert (copy.runs / "test-access.jsonl").read_bytes() == accesses
    score = LegacyBleu("bb").scorer("cpu")
    for stored in read_records([copy.runs / "records"]).records:
        for test_set, text in stored.record.scores.items():
            (further,) = text.further
            corpus = copy.runs / "artifacts" / "corpus" / stored.record.artifacts["corpus"] / test_set
            references = (corpus / "target.txt").read_text().splitlines()
            assert (further.name, further.legacy, further.signature) == (
                "legacy-bleu",
                True,
                LegacyBleu("bb").signature,
            )
            assert further.value == score([""] * 6, stored.hypotheses(test_set), references)
        assert "--metric legacy-bleu" in stored.record.command
    assert "legacy-bleu" in next(outcome.page.parent.glob("rows/corpus/baseline*")).read_text()

    assert missing(prepare(asked)) == missing(prepare(copy)) == ()
    assert micro.run_here(copy)[0].trained == 0
    assert micro.records(copy.runs) == after  # not asked for this time, and still there


def test_metrics_add_up_and_survive_a_lost_record(copy, checkpoint):
    micro.run_here(with_metrics(copy, "legacy-bleu"))
    prepared = prepare(with_metrics(copy, f"comet:{checkpoint.path}"))
    row = next(row for row in prepared.plan.rows if row.method == "baseline")
    (task,) = row.metrics
    names = {"further": {"name": task.inputs["metric"], "signature": "s", "legacy": False}}
    values = {"values": {"dev": 0.25, "test": 0.5}, "seconds": {}}
    prepared.store.make("metric", task.inputs, lambda folder: names | values)
    watcher = recorder.Recorder(prepared)
    watcher.record(row)
    record = recorder.recorded(prepared, row).record
    further = {each.name: each.value for each in record.scores["test"].further}
    assert further[task.inputs["metric"]] == 0.5
    assert set(further) == {"legacy-bleu", task.inputs["metric"]}
    assert "comet:model.ckpt" in record.command
    assert str(checkpoint.path.parent) not in record.model_dump_json()

    path = prepared.records / record.file
    old = parse_record(path.read_bytes())
    path.write_text(old.model_copy(update={"recipe": old.recipe | {"seeds": 9}}).model_dump_json())
    watcher.record(row)  # written anew, as other seeds were asked for
    again = recorder.recorded(prepared, row).record
    assert again.scores == record.scores
    assert again.artifacts == record.artifacts


def test_a_metric_that_fails_costs_no_row(copy, monkeypatch):
    monkeypatch.setattr("bench.request.chosen_metric", lambda wanted, language: Broken())
    before = micro.records(copy.runs)
    outcome, _ = micro.run_here(with_metrics(copy, "broken"))
    assert outcome.failures == {}
    assert len(outcome.unscored) == 2
    assert all("no such luck" in reason for reason in outcome.unscored.values())
    assert any(
        name.startswith("baseline.1-1.quick.") and name.endswith(", seed 1, broken") for name in outcome.unscored
    )
    assert micro.records(copy.runs) == before


class Broken(metrics_module.Metric):
    name = "broken"
    signature = "broken|1"

    def __hash__(self):
        return 1

    def scorer(self, device):
        raise RuntimeError("no such luck")


class Infinite(Broken):
    def scorer(self, device):
        return lambda *texts: float("nan")


def test_a_score_that_is_no_number_is_a_failure(copy, monkeypatch):
    monkeypatch.setattr("bench.request.chosen_metric", lambda wanted, language: Infinite())
    outcome, _ = micro.run_here(with_metrics(copy, "broken"))
    assert set(outcome.unscored.values()) == {"broken of dev is nan"}


def test_a_metric_makes_no_other_row_and_no_other_scores(finished, monkeypatch):
    plain, asked = prepare(finished.request).plan, prepare(with_metrics(finished.request, "legacy-bleu")).plan
    monkeypatch.setitem(ENGINE, "metric", ENGINE["metric"] + 1)
    newer = prepare(with_metrics(finished.request, "legacy-bleu")).plan
    ids = [[(row.id, row.scores.key) for row in plan.rows] for plan in (plain, asked, newer)]
    assert ids[0] == ids[1] == ids[2]
    assert {len(row.metrics) for row in asked.rows} == {1}
    assert asked.rows[0].metrics[0].key != newer.rows[0].metrics[0].key
    assert "metric" not in micro.records(finished.request.runs)[0].engine


def test_two_seeds_of_a_metric_are_two_tasks(tmp_path):
    wanted = micro.request(tmp_path, seeds=2, metrics=("legacy-bleu", "legacy-bleu"))
    plan = prepare(wanted).plan
    metrics = [task for task in plan.tasks if task.kind == "metric"]
    assert len(metrics) == len(plan.rows) == 4
    assert {need.kind for need in metrics[0].needs} == {"scores", "corpus"}


def test_further_scores_are_finite():
    with pytest.raises(ValueError, match="finite"):
        FurtherScore(name="x", value=float("inf"), signature="s")
    assert Comet.legacy is False

"""What a run refuses before any work, and how it shares out threads."""

from pathlib import Path

import micro
import pytest
from plugins import plug_in

from bench import request as request_module
from bench.errors import UsageError
from bench.run import prepare


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"word_levle.alpha": 0.5}, r"unknown setting 'word_levle.alpha'\. Did you mean 'word_level\.…'"),
        ({"word_level": 1}, "unknown setting 'word_level'"),
        ({"trian_pairs": 1}, "unknown setting 'trian_pairs'"),
        ({"tie_kd.top_k": 5}, "--set gives settings of tie_kd, which --methods leaves out"),
        ({"word_level.alpha": -1}, "word_level: alpha: .*got -1"),
        ({"student.width": 15}, "width 15 is not divisible by 2 heads"),
    ],
)
def test_wrong_settings(tmp_path, corpus, settings, message):
    with pytest.raises(UsageError, match=message):
        prepare(micro.request(tmp_path, "word_level", corpus=corpus, settings=settings))
    assert not (tmp_path / "runs").exists()


def test_settings_of_the_plain_student_need_no_name(tmp_path, corpus):
    with pytest.raises(UsageError, match="unknown setting of baseline 'x'"):
        prepare(micro.request(tmp_path, "word_level", corpus=corpus, settings={"baseline.x": 1}))


def test_a_data_set_whose_name_no_record_could_hold(tmp_path):
    prefix = micro.write_corpus(tmp_path)
    for path in tmp_path.glob("corpus.*"):
        path.rename(tmp_path / path.name.replace("corpus", "my corpus"))
    with pytest.raises(UsageError, match=r"cannot be recorded: dataset: .*got 'my corpus'"):
        prepare(micro.request(tmp_path, corpus=prefix.with_name("my corpus")))


def test_a_method_that_no_record_could_hold(tmp_path, corpus):
    plug_in(tmp_path / "more", "mine")
    path = tmp_path / "more" / "mine.py"
    path.write_text(path.read_text().replace('title = "Mine"', "title = 5"))
    with pytest.raises(UsageError, match=r"mine.* cannot be recorded: title: .*string, got 5"):
        prepare(micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more"))


def test_unequal_sides(tmp_path):
    prefix = micro.write_corpus(tmp_path)
    micro.write_lines(Path(f"{prefix}.dev.bb"), ["one line"])
    with pytest.raises(UsageError, match="6 source lines but 1 target lines"):
        micro.run_here(micro.request(tmp_path, corpus=prefix))


def test_the_threads_are_shared_out(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(request_module, "default_slots", lambda device: request_module.Slots(8, 1))
    slots = [prepare(micro.request(tmp_path, corpus=corpus, workers=n)).slots for n in (None, 2, 100)]
    assert [(each.workers, each.threads) for each in slots] == [(8, 1), (2, 4), (100, 1)]

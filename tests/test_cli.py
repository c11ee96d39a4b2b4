"""The command line: what each command prints."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import micro
import pytest
import requests
from factories import make_record, seeds, store
from standins import fake_multi30k, raising

from bench import cli
from bench import run as run_module
from bench.data.datasets import DATASETS
from bench.records import find_row, read_records
from bench.run import Outcome


class TestHelp:
    @pytest.mark.parametrize("command", [[], *([name] for name in cli.group.commands)], ids=str)
    def test_every_command_explains_itself(self, call, command):
        code, out, _ = call(*command, "--help")
        assert code == 0
        assert out.startswith("Usage: python -m bench")
        assert len(out.splitlines()) > 5

    def test_help_loads_nothing_heavy(self):
        code = (
            "import sys\n"
            "from bench.cli import main\n"
            "for words in (['--help'], ['run', '--help'], ['translate', '--help'], ['list', 'presets']):\n"
            "    sys.argv = ['bench', *words]\n"
            "    try: main()\n"
            "    except SystemExit as end: assert end.code == 0\n"
            "print(*sorted({'torch', 'numpy', 'sacrebleu', 'sentencepiece', 'comet_ml', 'jinja2'} & set(sys.modules)))"
        )
        found = subprocess.run([sys.executable, "-c", code], cwd=micro.ROOT, capture_output=True, text=True, check=True)
        assert found.stdout.splitlines()[-1] == ""

    def test_the_commands_of_the_readme_are_those_there_are(self):
        readme = (micro.ROOT / "README.md").read_text(encoding="utf-8")
        assert [name for name in cli.group.commands if f"| `{name}` |" not in readme] == []


class TestRun:
    def test_a_finished_run_has_nothing_to_do(self, call, finished):
        code, out, err = call("run", *micro.arguments(finished.request))
        page = finished.request.runs / "leaderboard" / "index.html"
        assert (code, err) == (0, "")
        assert out == f"nothing to do: every row is there already.\n9 of 9 rows finished; page: {page}\n"

    def test_failed_rows_are_named_with_their_reason(self, call, monkeypatch):
        outcome = Outcome(Path("page"), 3, 5, {"a2d.2-2, seed 1": "out of memory"})
        monkeypatch.setattr(run_module, "run", lambda request, console: outcome)
        assert call("run") == (1, "2 of 3 rows finished; page: page\n", "failed: a2d.2-2, seed 1: out of memory\n")

    def test_an_interrupt_is_no_failure_of_the_rows(self, call, monkeypatch):
        monkeypatch.setattr(run_module, "run", raising(KeyboardInterrupt()))
        code, out, err = call("run")
        assert (code, out) == (130, "")
        assert "goes on from here" in err

    def test_options_reach_the_request(self, call, monkeypatch, tmp_path):
        seen = []
        monkeypatch.setattr(run_module, "run", lambda request, _: seen.append(request) or Outcome(tmp_path, 1, 1, {}))
        words = ["--methods", "a2d, tie_kd,", "--seeds", "2", "--workers", "3", "--device", "cpu", "--preset", "small"]
        words += [
            "--trials",
            "4",
            "--track",
            "open",
            "--sampler",
            "gp",
            "--pruner",
            "median",
            "--budget",
            "wall-clock:9",
        ]
        words += ["--storage", "x://y", "--processes", "2", "--silence", "60", "--cluster", "ray", "--no-speed"]
        words += ["--set", "a=1", "--set", "b=[1,2]", "--set", "c=text", "--set", "d=x=y", "--set", "e=true"]
        assert call("run", *words, "--runs", tmp_path, "--dataset", "p/q", "--langs", "de,en")[0] == 0
        assert seen == [
            run_module.Request(
                methods=("a2d", "tie_kd"), dataset="p/q", languages=("de", "en"), preset="small", seeds=2, workers=3,
                settings={"a": 1, "b": [1, 2], "c": "text", "d": "x=y", "e": True}, device="cpu", runs=tmp_path,
                trials=4, track="open", sampler="gp", pruner="median", budget=("wall-clock", 9.0), storage="x://y",
                processes=2, silence=60.0, cluster="ray", speed=False,
            )
        ]  # fmt: skip


class TestPlan:
    def test_before_a_run_everything_is_to_do(self, call, tmp_path, corpus):
        code, out, err = call("plan", *micro.arguments(micro.request(tmp_path, "word_level", corpus=corpus)))
        assert code == 0
        assert all(line.startswith("timing ") for line in err.splitlines())
        listed, ahead = out.split("\n\n")
        *tasks, last = listed.splitlines()
        assert [line.split()[:3] for line in tasks[:3]] == [
            ["to", "do", kind] for kind in ("tokenizer", "corpus", "teacher")
        ]
        assert last.startswith("3 rows, 3 with seeds; 8 of 8 tasks to do, 2 at a time with ")
        assert [line.split()[0] for line in ahead.splitlines()[1:7]] == [
            "tokenizer", "corpus", "teacher", "student", "scores", "about"
        ]  # fmt: skip
        assert re.search(r"about \d+ s on these slots, \d\.\d\d device-hours", ahead)
        assert not (tmp_path / "runs").exists()

    def test_the_timing_of_all_rows_is_part_of_it(self, call, tmp_path, corpus):
        wanted = replace(micro.request(tmp_path, corpus=corpus), speed=True)
        code, out, _ = call("plan", *micro.arguments(wanted), "--json")
        found = json.loads(out)
        assert code == 0
        last = found["tasks"][-1]
        assert (last["kind"], last["label"], last["present"]) == ("speed", "speed of 2 rows", False)
        assert 0 < last["seconds"] <= found["forecast"]["critical_path_seconds"]

    def test_after_a_run_all_is_present(self, call, finished):
        code, out, _ = call("plan", *micro.arguments(finished.request), "--json")
        found = json.loads(out)
        assert code == 0
        assert len(found["rows"]) == 9
        assert {task["present"] for task in found["tasks"]} == {True}
        assert found["left_out"] == {}
        assert found["forecast"]["wall_seconds"] == 0

    def test_a_method_that_cannot_be_planned_is_told(self, call, tmp_path, corpus):
        (tmp_path / "mine.py").write_text(
            "from bench.method import Method\n\n\nclass Mine(Method):\n    name = title = 'mine'\n\n"
            "    def loss(self, step):\n        return {}\n\n    def stages(self):\n        return 1 / 0\n"
        )
        wanted = micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path)
        code, out, err = call("plan", *micro.arguments(wanted))
        assert code == 0
        assert err.startswith("left out: mine: ZeroDivisionError: division by zero\n")
        assert "2 rows" in out


class TestList:
    @pytest.mark.parametrize("what", ["methods", "datasets", "presets", "runs"])
    def test_lines_and_json_have_the_same_names(self, call, finished, what):
        code, out, _ = call("list", what, "--runs", finished.request.runs)
        entries = json.loads(call("list", what, "--runs", finished.request.runs, "--json")[1])
        assert code == 0
        assert [line.split()[0] for line in out.splitlines()] == [entry["name"] for entry in entries]
        assert entries

    def test_an_empty_list_is_no_error(self, call, tmp_path):
        assert call("list", "runs", "--runs", tmp_path) == (0, "", "")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    references = {"test": [f"Satz {number} steht hier ganz allein ." for number in range(40)]}
    for method, wrong in (("baseline", 3), ("word_level", 8)):
        for seed in (1, 2, 3):
            every = wrong + seed / 10
            lines = [line if number % every >= 1 else "falsch" for number, line in enumerate(references["test"])]
            role, given = "baseline" if method == "baseline" else "method", {"test": lines}
            record = make_record(method, seed, role=role, hypotheses=given, references=references)
            store(folder, record, hypotheses=given, references=references)
    store(folder, *seeds("old", [20.0, 21.0, 22.0]))
    return folder


class TestCompare:
    def test_rows_in_words(self, call, results, tmp_path):
        code, out, err = call("compare", "word_level", "baseline", "--results", results, "--runs", tmp_path)
        assert (code, err) == (0, "")
        head, a, b, difference, verdict, signature = out.splitlines()
        assert head.startswith("synthetic, test, 40 sentences: BLEU, mean ± standard deviation over seeds")
        assert re.fullmatch(r"  A  word_level\.2-2\.quick\.0badcafe  seeds 1, 2, 3  [\d.]+ ± [\d.]+", a)
        assert b.startswith("  B  baseline.2-2.quick.0badcafe ")
        assert re.fullmatch(r"  A - B  \+[\d.]+  95 % interval \+[\d.]+ to \+[\d.]+  p = 0\.\d{4}", difference)
        assert verdict == "A is significantly better than B (p at most 0.05)."
        assert signature.startswith("BLEU nrefs:1|")
        assert "A is significantly worse than B" in call("compare", "baseline", "word_level", "--results", results)[1]

    def test_one_seed_as_json(self, call, results):
        words = (
            "compare",
            "word_level@1",
            "synthetic/word_level@2",
            "--metric",
            "chrf",
            "--results",
            results,
            "--json",
        )
        found = json.loads(call(*words)[1])
        assert (found["metric"], found["models_only"], found["outcome"]) == ("chrf", True, "level")
        assert found["a"]["seeds"] == [1]
        assert found["verdict"] == (
            "No significant difference (p above 0.05). One seed: this says something of these two models only, not of "
            "the methods."
        )

    def test_the_runs_records_are_looked_at_too(self, call, results, tmp_path):
        shutil.copytree(results, tmp_path / "runs" / "records")
        (tmp_path / "runs" / "records" / "broken.json").write_text("{")
        code, out, err = call("compare", "word_level", "baseline", "--runs", tmp_path / "runs", "--test-set", "test")
        assert code == 0
        assert "broken.json: not JSON" in err
        assert "A is significantly better" in out

    def test_what_cannot_be_compared(self, refused, results, tmp_path):
        assert "there is no folder of records" in refused("compare", "a", "b", "--runs", tmp_path)
        (tmp_path / "records").mkdir()
        assert "there are no records in" in refused("compare", "a", "b", "--runs", tmp_path)
        said = refused("compare", "word_levle", "baseline", "--results", results)
        assert "unknown row 'word_levle'. Known: synthetic/baseline.2-2.quick.0badcafe, " in said
        assert "run it again" in refused("compare", "old", "baseline", "--results", results)
        said = refused("compare", "word_level", "baseline", "--test-set", "tset", "--results", results)
        assert "Did you mean 'test'? Known: test." in said


class TestCheck:
    def test_a_file_is_checked_alone(self, call, tmp_path):
        new = call("new-method", "my_kd", "--folder", tmp_path)
        path = tmp_path / "methods" / "my_kd.py"
        assert new[0] == 0
        assert f"next: python -m bench check {path}" in new[1]
        (path.parent / "broken.py").write_text("1 / 0")
        code, out, err = call("check", path)
        assert (code, err) == (0, "")
        assert out.splitlines()[-1] == "my_kd: all checks passed."

    def test_what_fails_is_named_and_the_exit_code_tells(self, call, tmp_path):
        path = tmp_path / "mine.py"
        path.write_text(
            "from bench.method import Method\n\n\nclass Mine(Method):\n    name = title = 'mine'\n\n"
            "    def loss(self, step):\n        return 1 / 0\n"
        )
        code, out, _ = call("check", path)
        assert code == 1
        assert "FAILED" in out
        assert "ZeroDivisionError" in out
        assert out.splitlines()[-1].endswith(" checks failed.")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "no such method file: "),
            ("import no_such_package", "cannot be imported: ModuleNotFoundError"),
            ("x = (", "cannot be imported: SyntaxError"),
            ("x = 1", "defines no Method"),
        ],
    )
    def test_a_file_that_is_no_method(self, refused, tmp_path, content, message):
        path = tmp_path / "mine.py"
        if content is not None:
            path.write_text(content)
        said = refused("check", path)
        assert message in said
        assert str(path) in said


class TestNewMethod:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("word_level", "there is already a method 'word_level'"),
            ("My-Method", "'My-Method' cannot name a method: use lower-case letters"),
            ("class", "'class' cannot name a method"),
            ("all", "means something else on the command line"),
            ("student", "means something else on the command line"),
        ],
    )
    def test_a_name_that_is_taken_or_invalid(self, refused, tmp_path, name, message):
        assert message in refused("new-method", name, "--folder", tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_there_is_not_overwritten(self, refused, call, tmp_path):
        call("new-method", "my_kd", "--folder", tmp_path)
        assert "is already there" in refused("new-method", "my_kd", "--folder", tmp_path)


class TestData:
    def test_info_says_terms_and_files(self, call):
        code, out, _ = call("data", "info", "multi30k-en-de")
        assert code == 0
        for part in ("Licence: ", "Cite: ", "sha256 ", "https://"):
            assert part in out

    def test_verify_names_what_is_missing_or_damaged(self, call, tmp_path):
        code, out, err = call("data", "verify", "multi30k-en-de", "--data-dir", tmp_path)
        assert (code, out.count(": missing\n")) == (2, len(DATASETS["multi30k-en-de"].files))
        assert err.startswith("error: multi30k-en-de cannot be used: train.en.gz")
        code, out, _ = call("data", "verify", "multi30k-en-de", "--data-dir", fake_multi30k(tmp_path))
        assert (code, out.count(": not what its checksum says\n")) == (2, len(DATASETS["multi30k-en-de"].files))

    def test_a_data_set_without_files_is_always_there(self, call, tmp_path):
        for action in ("verify", "fetch"):
            assert call("data", action, "synthetic", "--data-dir", tmp_path)[0] == 0

    def test_a_download_that_fails_says_why(self, call, tmp_path, monkeypatch):
        monkeypatch.setattr(requests.Session, "get", raising(requests.ConnectionError("no network here")))
        code, out, err = call("data", "fetch", "multi30k-en-de", "--data-dir", tmp_path)
        assert code == 2
        assert "Licence" in out
        assert "failed: no network here" in err
        assert "Traceback" not in err


class TestDelivered:
    def test_translate_gives_what_was_scored(self, call, finished):
        source = Path(f"{finished.request.dataset}.test.aa").read_bytes()
        expected = find_row(read_records([finished.request.runs / "records"]).records, "word_level")[0].hypotheses(
            "test"
        )
        for text in (source, b"\xef\xbb\xbf" + source.replace(b"\n", b"\r\n")):
            code, out, err = call("translate", "corpus/word_level@1", "--runs", finished.request.runs, stdin=text)
            assert (code, err) == (0, "")
            assert out.split("\n")[:-1] == expected

    def test_input_that_is_no_text(self, refused, finished):
        said = refused("translate", "baseline", "--runs", finished.request.runs, stdin=b"ka\n\xff\n")
        assert said == "error: standard input, line 2: not UTF-8 text."

    @pytest.mark.parametrize("words", [["translate"], ["export", "--out", "new"]], ids=lambda words: words[0])
    def test_an_unknown_row(self, refused, finished, words):
        said = refused(*words, "corpus/baseline@7", "--runs", finished.request.runs)
        assert "unknown seed of row corpus/baseline" in said
        said = refused(*words, "bsaeline", "--runs", finished.request.runs)
        assert "unknown row 'bsaeline'" in said
        assert "corpus/baseline.1-1.quick" in said

    def test_without_a_run_folder(self, refused, tmp_path):
        assert "there is no folder of records" in refused("translate", "baseline", "--runs", tmp_path / "runs")

    def test_export_writes_a_new_folder_once(self, call, refused, finished, tmp_path):
        words = ("export", "baseline", "--runs", finished.request.runs, "--out", tmp_path / "out")
        code, out, _ = call(*words)
        assert code == 0
        assert out.startswith("wrote baseline.1-1.quick.")
        assert out.endswith(f", seed 1, as safetensors to {tmp_path / 'out'}\n")
        assert "exists already; name a new folder" in refused(*words)
        assert "'onnx' is not one of 'safetensors', 'ctranslate2'" in refused(*words, "--format", "onnx")


class TestPublish:
    def test_records_become_a_page_and_what_is_damaged_is_named(self, call, finished, tmp_path):
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "bad.json").write_text("{")
        words = ["--results", finished.request.runs / "records", "--results", tmp_path / "more"]
        code, out, err = call("publish", *words, "--out", tmp_path / "site")
        assert code == 0
        assert out == f"9 records; page: {tmp_path / 'site' / 'index.html'}\n"
        assert err.startswith(f"left out: {tmp_path / 'more' / 'bad.json'}: not JSON")
        assert (tmp_path / "site" / "index.html").is_file()

    def test_a_folder_that_is_not_there(self, refused, tmp_path):
        said = refused("publish", "--results", tmp_path / "nothing", "--out", tmp_path / "site")
        assert "there is no folder of records" in said


def test_doctor_has_a_line_for_everything(call, tmp_path):
    code, out, err = call("doctor", "--runs", tmp_path)
    assert (code, err) == (0, "")
    assert {"processor", "torch", "run", "data", "ctranslate2"} <= {line.split()[0] for line in out.splitlines()}


def test_the_version_is_told(call):
    from bench import __version__

    assert __version__ in call("--version")[1]


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    process = micro.started("list", "presets", "--json", cwd=tmp_path)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait()

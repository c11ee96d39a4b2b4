"""Addresses of tables, and the files beside them."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from factories import make_sweep, plain, seeds, standings, tuned
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.addresses import table_page
from leaderboard.entries import columns, entries, entry
from leaderboard.exports import to_csv, to_json
from leaderboard.ranking import aggregate


def addresses(*records) -> list[str]:
    return [table_page(table) for table in aggregate(records)]


class TestAddress:
    def test_it_is_the_same_whatever_other_tables_and_rows_there_are(self):
        (alone,) = addresses(*plain())
        others = [
            *seeds("m", [12.0, 13.0, 14.0]),
            *plain(recipe={"training": {"batch_tokens": 1}}, digest="11111111"),
            *plain(dataset="other"),
            *plain(data_sha256="1" * 64, digest="22222222"),
            *tuned("baseline", [1.0] * 3, make_sweep([1.0, 2.0], "baseline"), role="baseline", digest="33333333"),
        ]
        together = addresses(*others, *plain())
        assert alone in together
        assert len(set(together)) == len(together) == 5

    def test_it_never_changes(self):
        """Others have cited it. If this fails, a change of ``comparable`` has moved every table that was published."""
        fixed = {
            "languages": ("xa", "xb"),
            "recipe": {"seeds": 3, "training": {"target_tokens": 180_000}},
            "engine": {"student": 4},
        }
        assert addresses(*(record.model_copy(update=fixed) for record in plain())) == [
            "tables/synthetic/quick.e9ac9d98.html"
        ]

    def test_it_names_what_a_reader_would_tell_tables_apart_by(self):
        tuning = {"tuning": {"trials": 3, "track": "open"}, "budget": {"kind": "wall-clock", "amount": 90.0}}
        (address,) = addresses(*plain(recipe=tuning, track="open"))
        assert re.fullmatch(r"tables/synthetic/quick\.open\.wall-clock\.3-trials\.[0-9a-f]{8}\.html", address)

    @pytest.mark.parametrize("tuning", [{"trials": 10**400}, {"trials": "../x"}, {"trials": -5}, "x", None])
    @pytest.mark.parametrize("budget", [{"kind": "../../x"}, {"kind": None}, [], 3])
    def test_no_recipe_makes_another_path_of_it(self, tuning, budget):
        (address,) = addresses(*plain(recipe={"tuning": tuning, "budget": budget}))
        assert re.fullmatch(r"tables/synthetic/quick\.[0-9a-f]{8}\.html", address)


class TestFiles:
    def test_values_are_those_of_the_records_in_full(self):
        found = standings([*plain((10.0, 11.0, 12.1)), *seeds("m", [12.0, 13.0, 14.0 + 1 / 3])])
        lines = list(csv.DictReader(io.StringIO(to_csv(list(entries(found).values())))))
        assert [line["method_name"] for line in lines] == ["m", "baseline"]
        mean = (12.0 + 13.0 + 14.0 + 1 / 3) / 3
        assert float(lines[0]["bleu"]) == mean
        assert float(lines[0]["difference"]) == pytest.approx(mean - 33.1 / 3, abs=1e-12)
        assert (lines[0]["rank"], lines[0]["seeds"], lines[0]["trials"]) == ("", "3", "1")
        assert lines[0]["not_ranked"] == "not tested: its records have no statistics of sentences"
        assert lines[0]["status"] == "self-reported"
        assert lines[0]["student_seconds"] == "60.0"
        told = json.loads(to_json(found.table, list(entries(found).values())))
        described = {"dataset": "synthetic", "preset": "quick", "track": "official", "test_set": "test", "trials": 1}
        assert {key: told[key] for key in described} == described
        assert [row["bleu"] for row in told["rows"]] == [float(line["bleu"]) for line in lines]
        assert told["rows"][0]["rank"] is None
        assert list(told["rows"][0]) == list(lines[0])

    def test_every_column_of_the_page_has_a_value_to_sort_by(self):
        found = standings(plain())
        keys = [column.key for column in columns(found)]
        assert keys[:2] == ["rank", "method"]
        assert set(keys) <= set(entry(found, found.table.rows[0]))
        assert len(set(keys)) == len(keys)

    @given(
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"]),
    )
    def test_any_title_comes_back_and_none_is_a_formula(self, text, start):
        title = start + text
        records = [
            record.model_copy(update={"method": record.method.model_copy(update={"title": title})})
            for record in plain()
        ]
        text = to_csv(list(entries(standings(records)).values()))
        (line,) = csv.DictReader(io.StringIO(text, newline=""))
        assert not line["method"].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
        assert len(line["method"].removeprefix("'")) in (len(title), len(title) - 1)

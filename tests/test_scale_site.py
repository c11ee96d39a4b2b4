"""The generated records that a large site is measured with: what they are, and what is measured of a small one."""

from __future__ import annotations

from collections import Counter

from scale_site import SEEDS, SIZES, TEXTS, generate, measure_apart, places

from bench.measure.statistics import corpus_bleu
from bench.records import check_files, read_records
from leaderboard.ranking import aggregate


def test_the_rows_of_so_many_records_fill_tables_of_all_sizes():
    made = list(places(10_000))
    assert 3 * 3_300 < 3 * len(made) <= 10_000
    sizes = Counter(place.table for place in made)
    assert set(SIZES) <= set(sizes.values())
    assert len(sizes) > 80
    assert len({(place.method, place.depth, place.digest) for place in made}) == len(made)
    for table in sizes:
        assert [place.role for place in made if place.table == table][:2] == ["baseline", "teacher"]


def test_records_are_what_their_files_say_and_stand_in_their_tables(tmp_path):
    generate(tmp_path, 3 * (6 + 12 + 25), sentences=20)
    found, problems = read_records([tmp_path])
    assert problems == ()
    assert all(check_files(each) == [] for each in found)
    for each in found[::7]:
        for name in TEXTS:
            assert each.record.scores[name].bleu == corpus_bleu(each.statistics(name).sum(0))
    tables = aggregate(each.record for each in found)
    assert [len(table.rows) for table in tables] == [6, 12, 25]
    (lacking,) = [row for table in tables for row in table.unplaced]
    assert lacking.unplaced == ("2 of 3 seeds finished",)
    assert len(tables[1].family(tables[1].placed[-1])) in (1, 6)


def test_a_small_site_is_measured_in_a_process_of_its_own(tmp_path):
    generate(tmp_path / "records", 3 * SIZES[0], sentences=20)
    cost = measure_apart(tmp_path / "records", tmp_path / "site", sentences=20)
    assert (cost.records, cost.tables, cost.largest_table_rows) == (SIZES[0] * len(SEEDS), 1, SIZES[0])
    assert cost.pages > SIZES[0] * (1 + len(TEXTS))
    assert 0 < cost.overview < cost.largest_table < cost.everything
    assert cost.build_seconds > 0
    assert cost.peak_memory > 50 * 2**20

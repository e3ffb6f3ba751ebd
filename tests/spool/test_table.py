from __future__ import annotations

from itertools import chain, combinations
from pathlib import Path

from bsmtp_batch.spool import groups, recover, table

INTERNALS = Path(__file__).parent.parent.parent / "docs" / "INTERNALS.md"


def subsets(columns):
    return map(frozenset, chain.from_iterable(combinations(columns, n) for n in range(len(columns) + 1)))


def test_no_combination_of_files_is_two_states():
    for columns, rows in (
        (table.BATCH_COLUMNS, table.BATCH_ROWS),
        (table.FRAGMENT_COLUMNS, table.FRAGMENT_ROWS),
    ):
        for present in subsets(columns):
            assert len([row.name for row in rows if row.admits(present, columns)]) <= 1, present


def test_every_row_has_a_mark_for_each_column():
    assert {len(row.marks) for row in table.BATCH_ROWS} == {len(table.BATCH_COLUMNS)}
    assert {len(row.marks) for row in table.FRAGMENT_ROWS} == {len(table.FRAGMENT_COLUMNS)}


def test_every_unfinished_row_names_a_function_of_recovery():
    for row in table.BATCH_ROWS + table.FRAGMENT_ROWS:
        assert not row.recovery or callable(getattr(recover, row.recovery, None) or getattr(groups, row.recovery))


def test_a_batch_whose_list_is_not_done_is_never_takeable():
    for present in subsets(table.BATCH_COLUMNS):
        row = table.batch_row(present)
        if row is not None and row.takeable:
            assert table.DONE in present
            assert table.LIST not in present
            assert {table.READY, table.READY_MANIFEST} <= present


def test_what_is_being_replaced_cannot_be_taken():
    assert table.batch_row(frozenset({table.DONE, table.READY_MANIFEST, table.DEAD})).recovery == "finish_commit"


def test_nothing_at_all_is_no_row():
    assert table.batch_row(frozenset()) is None


def test_the_markdown_has_every_row_once():
    text = table.as_markdown()

    for row in table.BATCH_ROWS + table.FRAGMENT_ROWS:
        assert text.count(f"| {row.name} |") == len(
            [r for r in table.BATCH_ROWS + table.FRAGMENT_ROWS if r.name == row.name]
        )


def test_the_internals_show_this_very_table():
    text = INTERNALS.read_text(encoding="utf-8")

    shown = text.partition("<!-- begin states -->\n")[2].partition("<!-- end states -->")[0]

    assert shown.strip() == table.as_markdown()

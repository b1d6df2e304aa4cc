"""A metric that is new, goes off, comes on again or changes counts each document once."""

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.chats import object_id
from tests.life import MINUTE, ONE, START, TWO, Life, finish_all, lived, pass_minutes, restart


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    yield from lived(tmp_path, monkeypatch)


@pytest.mark.parametrize("is_finished", [False, True])
def test_what_is_kept_open_counts_once_in_a_new_metric(life: Life, *, is_finished: bool) -> None:
    pass_minutes(life, 1, 75, unsettled=True)
    if is_finished:
        finish_all(life)
    life.stored.now_is += MINUTE
    restart(life, TWO)
    for _ in range(4):
        life.ledger.tick()
        life.stored.now_is += timedelta(minutes=1)
    assert (life.counted(ONE), life.counted(TWO)) == (208, 208)
    life.ledger.tick()
    assert not [one for one in life.messages.order if one < object_id(START, 0).binary]


def test_a_metric_that_goes_off_while_its_history_is_missing_counts_once(life: Life) -> None:
    pass_minutes(life, 1, 40, unsettled=True)
    life.stored.now_is += MINUTE
    restart(life, TWO)
    life.ledger.tick()
    restart(life)
    finish_all(life)
    for _ in range(80):
        life.stored.now_is += MINUTE
        life.ledger.tick()
    restart(life, TWO)
    life.ledger.tick()
    assert life.counted(TWO) == life.counted(ONE) == len(life.stored.documents)


def test_a_metric_that_goes_off_before_anything_was_read_misses_nothing_later(life: Life) -> None:
    restart(life, TWO)
    restart(life)
    life.ledger.tick()
    pass_minutes(life, 1, 30)
    restart(life, TWO)
    life.ledger.tick()
    assert life.counted(TWO) == life.counted(ONE) == len(life.stored.documents)


def test_a_metric_that_changes_its_meaning_while_it_is_off_counts_what_is_open(life: Life) -> None:
    restart(life, TWO)
    life.ledger.tick()
    assert life.counted(TWO) == 60
    restart(life)
    pass_minutes(life, 1, 60)
    restart(life, dataclasses.replace(TWO, changes=("9.0: all of them",)))
    life.ledger.tick()
    assert life.counted(TWO) == life.counted(ONE) == len(life.stored.documents)


def test_a_metric_that_changes_its_form_after_its_meaning_counts_what_is_open(life: Life) -> None:
    for changed in ({}, {"changes": ("9.0: all of them",)}, {"changes": ("9.0: all of them",), "parts": 2}):
        restart(life, dataclasses.replace(TWO, **changed))
        life.ledger.tick()
    assert life.counted(TWO) == life.counted(ONE) == 60

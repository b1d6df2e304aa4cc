"""Definitions, samples, and the guard that bounds labels."""

import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librechat_exporter.metrics.guard import OTHER, LabelGuard
from librechat_exporter.metrics.metric import WINDOW, LabelValues, Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings, documented
from tests.offered import COLLECTORS, METRICS

MODELS = Metric(name="test_answers_total", help="Answers", type="counter", kind="happened", labels=("model",))
PLAIN = Metric(name="test_users", help="Users", type="gauge", kind="is")


def test_no_name_is_defined_twice_and_every_toggle_has_a_setting_and_every_toggle_a_metric() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 40
    toggles = {f"ENABLE_{toggle}_METRICS".upper() for metric in METRICS for toggle in metric.toggles}
    assert toggles == {name for name in documented(Settings) if re.fullmatch("ENABLE_.*_METRICS", name)}
    assert len({collector.name for collector in COLLECTORS}) == len(COLLECTORS)


def test_a_family_refuses_labels_that_do_not_fit() -> None:
    for labels in ((), ("a", "b"), (1,), (None,)):
        with pytest.raises(ValueError, match="test_answers_total takes a string for each of the labels"):
            MODELS.family({labels: 1})  # type: ignore[dict-item]


def test_equal_values_give_the_same_family_and_others_another() -> None:
    values: dict[LabelValues, float] = {("a",): 1.0, ("b",): 2.0}
    family = MODELS.family(values)
    assert MODELS.family({("b",): 2, ("a",): 1}) is family
    values["a",] = 3.0
    assert [sample.value for sample in MODELS.family(values).samples] == [3, 2]
    assert [sample.value for sample in family.samples] == [1, 2]
    many: dict[LabelValues, float] = {(str(number),): 1.0 for number in range(2000)}
    assert MODELS.family(many) is not MODELS.family(many)  # so much is not kept


def test_samples_add_up_and_a_metric_without_labels_is_zero() -> None:
    samples = Samples(LabelGuard(10, 100))
    samples.add(MODELS, 2, "a")
    samples.add(MODELS, 3, "a")
    assert [(sample.labels, sample.value) for sample in samples.family(MODELS).samples] == [({"model": "a"}, 5)]
    assert [sample.value for sample in samples.family(PLAIN).samples] == [0]


@given(st.lists(st.text(max_size=5), max_size=40), st.integers(1, 6))
def test_the_guard_admits_the_first_and_never_changes_its_mind(values: list[str], limit: int) -> None:
    guard = LabelGuard(limit, 100)
    first = {value: guard.admit("model", value) for value in values}
    assert {value: guard.admit("model", value) for value in values} == first
    assert len(set(first.values()) - {OTHER}) <= limit
    assert all(name in (value, OTHER) for value, name in first.items())
    if values:
        dropped = sum(name == OTHER and value != OTHER for value, name in first.items())
        assert guard.dropped().get(("model",), 0) == dropped
    again = LabelGuard(limit, 100, guard.take_unsaved())
    assert {value: again.admit("model", value) for value in values} == first
    assert guard.take_unsaved() == []


def test_the_guard_keeps_its_limit_among_threads() -> None:
    guard = LabelGuard(50, 1000)

    def work(offset: int) -> None:
        for number in range(200):
            guard.admit("model", f"m{(number * 7 + offset) % 200}")

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(guard.take_unsaved()) == 50
    assert guard.dropped() == {("model",): 150}


def test_a_metric_has_so_many_series_and_the_rest_is_other() -> None:
    metric = Metric(
        name="calls",
        help="Calls",
        type="counter",
        kind="happened",
        labels=("model", "kind", "tool"),
        chosen=("kind",),
    )
    guard = LabelGuard(10, 3)
    named = [guard.series(metric, (f"m{n}", "x", "t"))[1] for n in range(5)]
    assert named == [("m0", "x", "t"), ("m1", "x", "t"), ("m2", "x", "t"), *[("other", "x", "other")] * 2]
    assert guard.series(metric, ("m1", "x", "t")) == ("calls", ("m1", "x", "t"))
    assert guard.dropped_series() == {("calls",): 2}
    assert guard.dropped() == {("model",): 0, ("tool",): 0}
    again = LabelGuard(10, 3, guard.take_unsaved())
    for labels in named[:3]:
        again.restore(metric, labels)
    assert again.series(metric, ("m3", "x", "t"))[1] == ("other", "x", "other")


def test_buckets_and_hours_are_no_series_of_their_own() -> None:
    guard = LabelGuard(10, 1)
    histogram = Metric(
        name="seconds", help="Seconds", type="histogram", kind="happened", labels=("model",), buckets=(1, 2)
    )
    hourly = Metric(name="hourly", help="Hours", type="gauge", kind="recent", labels=("model", WINDOW))
    for metric in (histogram, hourly):
        assert [guard.series(metric, ("a", str(n)))[1] for n in range(3)] == [("a", str(n)) for n in range(3)]
        assert guard.series(metric, ("b", "1"))[1] == (OTHER, "1")

"""The text that is served is the one that prometheus-client makes, whatever of it is kept from the scrape before."""

import copy
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from librechat_exporter.http.application import _FORMS
from librechat_exporter.http.exposition import Exposition


class Families(Collector):
    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


_texts = st.one_of(
    st.text(max_size=5),
    st.sampled_from(['quo"te', "new\nline", "back\\slash", "# HELP", "a b 1.0", "\u2028", "\x85", "\r", "other", ""]),
)
_values = st.one_of(st.integers(0, 10**18), st.floats(), st.sampled_from([0.0, 1e-9, 123456789.5, float("inf")]))


@st.composite
def _families(draw: st.DrawFn) -> Families:
    counter = CounterMetricFamily("a_b", "Help\nof two \\ lines", labels=("model", "kind"))
    gauge = GaugeMetricFamily("c", "Help")
    histogram = HistogramMetricFamily("d_seconds", "Help", labels=("model",))
    for labels in draw(st.lists(st.tuples(_texts, _texts), max_size=4, unique=True)):
        counter.add_metric(labels, draw(_values))
    gauge.add_metric((), draw(_values))
    for model in draw(st.lists(_texts, max_size=2, unique=True)):
        histogram.add_metric((model,), [("1.0", draw(_values)), ("+Inf", draw(_values))], draw(_values))
    return Families(counter, gauge, histogram)


@pytest.mark.parametrize("content_type", _FORMS)
@settings(max_examples=40, deadline=None)
@given(st.lists(_families(), min_size=1, max_size=4))
def test_the_text_is_the_librarys(content_type: str, scrapes: list[Families]) -> None:
    encode, _ = choose_encoder(content_type)
    exposition = Exposition(encode)
    for families in scrapes:
        # What has not changed is shared with the scrape after it.
        for again in (families, Families(*families.families), families):
            assert exposition.text(again) == encode(again)


def test_what_tells_more_than_a_value_is_left_to_the_library() -> None:
    encode, _ = choose_encoder("application/openmetrics-text")
    exposition = Exposition(encode)
    for time in (1.0, 2.0):
        family = GaugeMetricFamily("c", "Help")
        family.add_metric((), 1, timestamp=time)
        assert exposition.text(Families(family)) == encode(Families(family))


def test_a_value_that_changes_is_told() -> None:
    encode, _ = choose_encoder("")
    exposition = Exposition(encode)
    family = CounterMetricFamily("a", "Help", labels=("model",))
    family.add_metric(("x",), 1)
    family.add_metric(("y",), 1)
    assert b'a_total{model="x"} 1.0\n' in exposition.text(Families(family))
    changed = copy.copy(family)
    changed.samples = [family.samples[0]._replace(value=2.0), family.samples[1]]
    for one, value in ((changed, b"2.0"), (changed, b"2.0"), (family, b"1.0")):
        assert exposition.text(Families(one)) == encode(Families(one))
        assert b'a_total{model="x"} ' + value + b"\n" in exposition.text(Families(one))

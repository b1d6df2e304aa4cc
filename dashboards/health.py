"""The exporter's health: whether its figures can be relied on."""

from dashboards.panels import BAD_BELOW_ONE, Rows, bars, lines, number
from dashboards.queries import RANGE, I, increase

HEALTH: Rows = {
    "The exporter": [
        number("Exporters", f"count(librechat_up{{{I}}})"),
        number("MongoDB answers", f"min(librechat_up{{{I}}})", steps=BAD_BELOW_ONE),
        number("State on disk", f"min(librechat_exporter_state_persistent{{{I}}})", steps=BAD_BELOW_ONE),
        number(
            "History counted",
            f"min(librechat_exporter_history_progress_ratio{{{I}}})",
            "percentunit",
            steps=BAD_BELOW_ONE,
        ),
        number(
            "Collectors that fail",
            f"sum(librechat_exporter_collector_success{{{I}}} == bool 0)",
            steps=[("green", None), ("red", 1)],
        ),
        number(
            "Details dropped",
            f"sum(librechat_exporter_label_values_dropped_total{{{I}}}) "
            f"+ sum(librechat_exporter_series_dropped_total{{{I}}})",
            text="Label values and combinations that count under `other`",
        ),
    ],
    "Scrapes": [
        lines(
            "Duration of a scrape",
            ('scrape_duration_seconds{instance=~"$instance"} and on (job, instance) librechat_up', "{{instance}}"),
            unit="s",
        ),
        lines(
            "Duration of the collectors",
            (f"max by (collector) (librechat_exporter_collector_duration_seconds{{{I}}})", "{{collector}}"),
            unit="s",
        ),
        lines(
            "Failures of collectors",
            (
                increase("librechat_exporter_collector_errors_total", I, "collector, reason", during="1h"),
                "{{collector}}: {{reason}}",
            ),
            text="In the hour before",
            axis="failures/h",
        ),
        lines(
            "Age of what is read once in a while",
            (f"max by (collector) (librechat_exporter_data_age_seconds{{{I}}})", "{{collector}}"),
            unit="s",
        ),
    ],
    "The process": [
        lines(
            "Memory",
            (f"process_resident_memory_bytes{{{I}}} and on (instance) librechat_up{{{I}}}", "{{instance}}"),
            unit="bytes",
        ),
        lines(
            "Processor",
            (f"rate(process_cpu_seconds_total{{{I}}}[{RANGE}]) and on (instance) librechat_up{{{I}}}", "{{instance}}"),
            unit="percentunit",
        ),
        lines(
            "Skipped values",
            (f"sum(increase(librechat_exporter_skipped_token_counts_total{{{I}}}[1h]))", "token counts"),
            (f"sum(increase(librechat_exporter_skipped_transactions_total{{{I}}}[1h]))", "transactions"),
            text="Values in LibreChat's documents that are no sensible numbers",
            axis="values",
        ),
        bars("Stored documents", f"sum by (collection) (librechat_stored_documents{{{I}}})", "{{collection}}"),
    ],
}

"""Parts of queries that the dashboards over the daemon's metrics share."""

I = 'instance=~"$instance"'  # noqa: E741
M = f'{I}, model=~"$model"'
RANGE = "$__rate_interval"
_ANSWER_BUCKETS = "librechat_answer_seconds_bucket"


def quantile(share: float, labels: str, by: str = "le") -> str:
    return f"histogram_quantile({share}, sum by ({by}) (rate({_ANSWER_BUCKETS}{{{labels}}}[{RANGE}])))"


def rate(metric: str, labels: str, by: str = "") -> str:
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{{{labels}}}[{RANGE}]))"


def increase(metric: str, labels: str, by: str = "", during: str = "$__range") -> str:
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (increase({metric}{{{labels}}}[{during}]))"

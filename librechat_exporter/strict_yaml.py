"""YAML in which no key may stand twice."""

from collections.abc import Hashable
from typing import Any

import yaml

# What load raises: PyYAML lets Python's own through, of dates, numbers and tags that do not fit.
YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)


class TwiceError(Exception):
    """Its text is the key."""


def load(text: str) -> Any:
    """Raises TwiceError, YAML_ERRORS."""
    return yaml.load(text, _Loader)  # noqa: S506


class _Loader(yaml.SafeLoader):
    """Of two equal keys YAML's loader takes the second, silently: users, for one, would be gone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        merged = "tag:yaml.org,2002:merge"
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merged]
        twice = [key for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise TwiceError(str(twice[0]))
        return super().construct_mapping(node, deep)

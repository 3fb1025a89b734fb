#!/usr/bin/env python3
"""Sends each dashboard through Grafana's own model of dashboards: what comes back otherwise, Grafana does not know."""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

FOLDER = pathlib.Path(__file__).parent.parent / "grafana/dashboards"
# Options of annotations that Prometheus's data source knows, and the model of dashboards does not.
OF_THE_SOURCE = ("titleFormat", "textFormat", "step")


def changed(before, after, path=""):
    """Where the two differ; what is new in the second does not count."""
    if isinstance(before, dict):
        for key, value in before.items():
            if isinstance(after, dict) and key in after:
                yield from changed(value, after[key], f"{path}.{key}")
            elif not (path.startswith(".annotations.") and key in OF_THE_SOURCE):
                yield f"{path}.{key}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after)):
            yield from changed(one, other, f"{path}[{number}]")
    elif before != after:
        yield path


register_default_plugins()
problems = []
for file in sorted(FOLDER.glob("*.json")):
    before = json.loads(file.read_text())
    after = json.loads(json.dumps(Dashboard.from_json(before), cls=JSONEncoder))
    problems += [f"{file.name}: {path}" for path in changed(before, after)]
print("\n".join(problems) or "Grafana's model knows all of every dashboard")
sys.exit(bool(problems))

#!/usr/bin/env python3
"""Runs every query of a dashboard on a Prometheus, and fails unless each returns data.

    dashboard.py http://127.0.0.1:9090 grafana/dashboards/*.json

Dashboards rot because nobody runs them. Panels must return a finite sample within the
last two minutes; variables must have values; annotations must evaluate, and may be
empty: nothing may have happened. Every metric that is named must exist, because a
query that ends in `or vector(0)` returns data whether it does or not.
"""

import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

RANGE_S = 120
STEP_S = 5
# What Grafana makes of its own variables with a scrape interval of five seconds.
BUILT_IN = {"__rate_interval": "20s", "__interval": f"{STEP_S}s", "__range": f"{RANGE_S}s"}


class Prometheus:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=10) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            body = json.load(error)
        if body["status"] != "success":
            raise ValueError(body["error"])
        return body["data"]

    def series(self, expression, instant=False):
        """The values of each series, over the last two minutes or now."""
        now = time.time()
        if instant:
            result = self.get("/api/v1/query", query=expression, time=now)["result"]
            return [[float(series["value"][1])] for series in result]
        result = self.get("/api/v1/query_range", query=expression, start=now - RANGE_S, end=now, step=STEP_S)["result"]
        return [[float(value) for _, value in series["values"]] for series in result]

    def label_values(self, metric, label):
        return self.get(f"/api/v1/label/{label}/values", **{"match[]": metric})


def substitute(expression, variables):
    for name, value in variables.items():
        expression = re.sub(r"\$\{%s\}|\$%s\b" % (name, name), lambda _: value, expression)
    return expression


def metrics_in(expression):
    """The names that are selected from: those that stand before `{` or `[`."""
    return set(re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*[{\[]", expression))


def panels_of(dashboard):
    for panel in dashboard["panels"]:
        yield from panel.get("panels", []) if panel["type"] == "row" and panel.get("collapsed") else [panel]


def check(dashboard, prometheus):
    """Yields a line for each thing that is wrong."""
    variables = dict(BUILT_IN)
    for variable in dashboard["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
        values = prometheus.label_values(metric, label)
        if not values:
            yield f"variable {variable['name']} has no values"
        variables[variable["name"]] = "|".join(values)

    queries = []
    ids = set()
    for panel in panels_of(dashboard):
        where = f"panel '{panel['title']}'"
        if panel["id"] in ids:
            yield f"{where}: its id is taken"
        ids.add(panel["id"])
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            yield f"{where}: no description"
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{where}: no unit"
        for target in panel["targets"]:
            queries.append((where, target["expr"], target.get("instant", False), False))
    for annotation in dashboard["annotations"]["list"]:
        if "target" in annotation:
            queries.append((f"annotation '{annotation['name']}'", annotation["target"]["expr"], False, True))

    metrics = {}
    for where, expression, instant, may_be_empty in queries:
        for metric in metrics_in(expression):
            metrics.setdefault(metric, where)
        try:
            series = prometheus.series(substitute(expression, variables), instant)
        except ValueError as error:
            yield f"{where}: {error}: {expression}"
            continue
        if not may_be_empty and not any(math.isfinite(value) for values in series for value in values):
            yield f"{where}: no data: {expression}"
    for metric, where in sorted(metrics.items()):
        if not prometheus.series(f"count({metric})", instant=True):
            yield f"{where}: there is no metric {metric}"
    print(f"{dashboard['title']}: {len(queries)} queries, {len(metrics)} metrics")


def main(url, *files):
    prometheus = Prometheus(url)
    wrong = []
    for file in files:
        with open(file, encoding="utf-8") as text:
            wrong += [f"{file}: {line}" for line in check(json.load(text), prometheus)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

#!/usr/bin/env python3
"""Runs every query of the dashboards and rules on a Prometheus that watches the real services.

    dashboard.py URL FILE...                each returns data, or it says which does not
    dashboard.py --self-test URL FILE...    renames each metric in turn, and sees that it is missed

Dashboards rot because nobody runs them. A panel must return a finite sample within the last
two minutes, and so must a recording rule; a variable must have values; the labels that a
legend names must be there. Annotations and alerts may have no value, as nothing may have
happened: of them, and of all the rest, each selector must match something by itself. That is
what a renamed metric, label or value cannot do, even in a query that ends in `or vector(0)`.
"""

import calendar
import dataclasses
import json
import math
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# Selectors that may match nothing, and why; the metric itself must be there. Everything else
# must match after some of each fault.
MAY_BE_EMPTY = {
    'ALERTS{alertstate="firing"}': "no alert may be firing",
    'to=~"forced_open|forced_closed|disabled"': "nobody has set a breaker by hand",
}

RANGE_S = 120
STEP_S = 5
# What Grafana makes of its own variables with a scrape interval of five seconds.
BUILT_IN = {"__rate_interval": "20s", "__interval": f"{STEP_S}s", "__range": f"{RANGE_S}s"}
# The slowest group of rules is evaluated once a minute.
RULES_WITHIN_S = 75

GRAFANA = pathlib.Path(__file__).resolve().parent.parent / "grafana"
KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"}


@dataclasses.dataclass(frozen=True)
class Query:
    where: str
    expression: str
    instant: bool = False
    # Labels that a legend or a title names.
    labels: tuple = ()
    # Nothing may have happened; its selectors must match all the same.
    may_be_silent: bool = False


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
        """The labels and the values of each series, over the last two minutes or now."""
        now = time.time()
        if instant:
            result = self.get("/api/v1/query", query=expression, time=now)["result"]
            return [(each["metric"], [float(each["value"][1])]) for each in result]
        result = self.get("/api/v1/query_range", query=expression, start=now - RANGE_S, end=now, step=STEP_S)["result"]
        return [(each["metric"], [float(value) for _, value in each["values"]]) for each in result]

    def label_values(self, metric, label):
        return self.get(f"/api/v1/label/{label}/values", **{"match[]": metric})

    def rules(self, since):
        """All rules, once each has been evaluated since then. Before that, a slow one may have
        looked last when there was nothing yet to be seen."""
        until = time.monotonic() + RULES_WITHIN_S
        while True:
            rules = [rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]]
            if time.monotonic() > until or all(evaluated(rule) >= since for rule in rules):
                return rules
            time.sleep(1)


def evaluated(rule):
    """When, in seconds since 1970."""
    return calendar.timegm(time.strptime(rule["lastEvaluation"][:19], "%Y-%m-%dT%H:%M:%S"))


def substitute(expression, variables):
    for name, value in variables.items():
        expression = re.sub(r"\$\{%s\}|\$%s\b" % (name, name), lambda _: value, expression)
    return expression


def selectors(expression):
    """The vector selectors of an expression, without ranges and offsets."""
    # Label lists, and strings that are no matchers, hold words that are no metrics.
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", expression)
    text = re.sub(r"\[[^\]]*\]|\boffset\s+\S+", " ", text)
    found = []

    def matchers(match):
        found.append(match.group(1) + match.group(2))
        return " "

    text = re.sub(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^{}]*\})", matchers, text)
    text = re.sub(r'"[^"]*"', " ", text)
    names = re.findall(r"(?<![\w.:])([a-zA-Z_:][a-zA-Z0-9_:]*)(?!\s*\(|[\w:])", text)
    return sorted({*found, *(name for name in names if name.lower() not in KEYWORDS)})


def metric_of(selector):
    return selector.split("{")[0]


def named_labels(text):
    return tuple(re.findall(r"\{\{\s*(\w+)\s*\}\}", text or ""))


def panels_of(dashboard):
    for panel in dashboard["panels"]:
        yield from panel.get("panels", []) if panel["type"] == "row" and panel.get("collapsed") else [panel]


def queries_of(file, dashboard, variables):
    for panel in panels_of(dashboard):
        for target in panel.get("targets", []):
            yield Query(
                f"{file}: panel '{panel['title']}'",
                substitute(target["expr"], variables),
                target.get("instant", False),
                named_labels(target.get("legendFormat")),
            )
    for annotation in dashboard["annotations"]["list"]:
        if "target" in annotation:
            yield Query(
                f"{file}: annotation '{annotation['name']}'",
                substitute(annotation["target"]["expr"], variables),
                labels=named_labels(annotation["titleFormat"]),
                may_be_silent=True,
            )


def values_of_variables(file, dashboard, prometheus, wrong):
    variables = dict(BUILT_IN)
    for variable in dashboard["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
        values = prometheus.label_values(metric, label)
        if not values:
            wrong.append(f"{file}: variable '{variable['name']}' has no values")
        variables[variable["name"]] = "|".join(values)
    return variables


def lint_dashboard(file, dashboard):
    """What a reader would miss, whatever the data."""
    ids, titles = set(), set()
    for panel in panels_of(dashboard):
        where = f"{file}: panel '{panel['title']}'"
        if panel["id"] in ids or panel["title"] in titles:
            yield f"{where}: its id or title is taken"
        ids.add(panel["id"])
        titles.add(panel["title"])
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            yield f"{where}: no description"
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{where}: no unit"


def lint_alert(rule, runbook, tests):
    where = f"alert {rule['name']}"
    annotations = rule["annotations"]
    if rule["labels"].get("severity") not in ("page", "ticket"):
        yield f"{where}: its severity is neither page nor ticket"
    for name in ("summary", "description"):
        if not annotations.get(name):
            yield f"{where}: no {name}"
    if annotations.get("runbook_url") != f"grafana/RUNBOOK.md#{rule['name'].lower()}":
        yield f"{where}: its runbook_url is not its section"
    if f"\n## {rule['name']}\n" not in runbook:
        yield f"{where}: the runbook has no section for it"
    if rule["name"] not in tests:
        yield f"{where}: no test names it"


def lint_runbook(runbook, titles):
    """What it sends a reader to look at is in italics, and must be there under that name."""
    for named in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", runbook):
        if named not in titles:
            yield f"the runbook names '{named}', which no dashboard, row or panel is called"


def judge(query, prometheus, matches):
    """Yields what is wrong with one query. `matches` remembers selectors."""
    for selector in selectors(query.expression):
        if any(known in selector for known in MAY_BE_EMPTY):
            selector = metric_of(selector)
        if selector == "ALERTS":  # Prometheus' own, and only there while one fires
            continue
        if selector not in matches:
            matches[selector] = bool(prometheus.series(f"count({selector})", instant=True))
        if not matches[selector]:
            yield f"{query.where}: nothing matches {selector}"
    try:
        series = prometheus.series(query.expression, query.instant)
    except ValueError as error:
        yield f"{query.where}: {error}: {query.expression}"
        return
    if not query.may_be_silent and not any(math.isfinite(value) for _, values in series for value in values):
        yield f"{query.where}: no data: {query.expression}"
    for label in query.labels:
        if any(label not in labels for labels, _ in series):
            yield f"{query.where}: its legend names the label {label}, which is not there"


def collect(prometheus, files, wrong, since=0):
    """Every query that there is. What is wrong with things that are none goes to `wrong`."""
    queries, titles = [], set()
    for file in files:
        dashboard = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
        # A dashboard is called by what stands before the colon.
        titles |= {dashboard["title"].split(":")[0], *(panel["title"] for panel in panels_of(dashboard))}
        wrong += lint_dashboard(file, dashboard)
        queries += queries_of(file, dashboard, values_of_variables(file, dashboard, prometheus, wrong))

    runbook = (GRAFANA / "RUNBOOK.md").read_text(encoding="utf-8")
    wrong += lint_runbook(runbook, titles)
    tests = "".join(test.read_text(encoding="utf-8") for test in GRAFANA.glob("prometheus/tests/*.yml"))
    rules = prometheus.rules(since)
    if not rules:
        wrong.append("this Prometheus has no rules")
    for rule in rules:
        alert = rule["type"] == "alerting"
        where = f"{'alert' if alert else 'rule'} {rule['name']}"
        if rule["health"] != "ok":
            wrong.append(f"{where}: {rule['health']}: {rule.get('lastError')}")
        if alert:
            wrong += lint_alert(rule, runbook, tests)
        # What a rule has recorded must be there too, and not only what it is made of.
        queries.append(Query(where, rule["query"] if alert else rule["name"], may_be_silent=alert))
        if not alert:
            queries.append(Query(where, rule["query"], instant=True))
    return queries


def check(prometheus, files):
    wrong, matches = [], {}
    queries = collect(prometheus, files, wrong, since=time.time())
    for query in queries:
        wrong += judge(query, prometheus, matches)
    print(f"{len(queries)} queries, {len(matches)} selectors, {len({metric_of(s) for s in matches})} metrics")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


def self_test(prometheus, files):
    """A check that cannot fail is none: with each metric renamed in turn, it must."""
    queries = collect(prometheus, files, [])
    names = sorted({metric_of(s) for query in queries for s in selectors(query.expression)} - {"ALERTS"})
    missed = []
    for name in names:
        renamed = [
            dataclasses.replace(query, expression=re.sub(rf"(?<![\w:]){name}(?![\w:])", f"{name}_renamed", query.expression))
            for query in queries
        ]
        concerned = [new for new, old in zip(renamed, queries) if new != old]
        if not all(any(judge(query, prometheus, {})) for query in concerned):
            missed.append(name)
    print(f"{len(names)} metrics renamed, {len(missed)} of them unnoticed", *missed)
    return 1 if missed or not names else 0


def main(*arguments):
    run = check
    if arguments[:1] == ("--self-test",):
        run, arguments = self_test, arguments[1:]
    if len(arguments) < 2:
        sys.exit(__doc__)
    url, *files = arguments
    return run(Prometheus(url), files)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The vocabulary of the dashboards: panels, and what all of them have in common.

Colours mean the same everywhere: green is well, blue is a proper no, yellow was saved or
is on probation, orange is time, red failed over there, purple was refused here.
"""

GREEN, BLUE, YELLOW, ORANGE, RED, PURPLE = (
    f"semi-dark-{colour}" for colour in ("green", "blue", "yellow", "orange", "red", "purple")
)
GREY = "#7b8087"

DATA = {"type": "prometheus", "uid": "prometheus"}
PER_SECOND = "suffix: /s"
SECONDS, SHARE, COUNT, BYTES = "s", "percentunit", "short", "bytes"

# The states of a circuit breaker, as one number.
BREAKER_STATES = [
    ("closed", "closed", GREEN),
    ("half_open", "half-open", YELLOW),
    ("open", "open", RED),
    ("forced_open", "forced open", PURPLE),
    ("forced_closed", "forced closed", BLUE),
    ("disabled", "disabled", GREY),
]


def breaker_state(by):
    """Which state it is in, by its place in BREAKER_STATES."""
    each = (
        f'{number} * resilience_circuit_breaker_state{{upstream=~"$upstream",state="{state}"}}'
        for number, (state, _, _) in enumerate(BREAKER_STATES)
    )
    return f"sum by ({by}) ({' or '.join(each)})"


def rate(metric, by=(), **matchers):
    """How fast a counter grows: `rate("orders_total", "reason", job="$job")`."""
    return f"{total(by)} ({rates(metric, **matchers)})"


def rates(metric, **matchers):
    """The same of each series, not added up yet."""
    return f"rate({select(metric, **matchers)}[$__rate_interval])"


def quantile(q, histogram, by=(), **matchers):
    by = ["le", *([by] if isinstance(by, str) else by)]
    buckets = f"rate({select(histogram + '_bucket', **matchers)}[$__rate_interval])"
    return f"histogram_quantile({q}, sum by ({', '.join(by)}) ({buckets}))"


def quantiles(histogram, name="", **matchers):
    """p50, p95 and p99. A mean says nothing about anybody."""
    return [
        (quantile(q, histogram, **matchers), f"{name}{label}", style)
        for q, label, style in (
            (0.5, "p50", line(GREEN)),
            (0.95, "p95", line(YELLOW)),
            (0.99, "p99", line(RED)),
        )
    ]


def total(by=()):
    by = [by] if isinstance(by, str) else by
    return f"sum by ({', '.join(by)})" if by else "sum"


def select(metric, **matchers):
    """Values that look like a pattern, or are a variable, are matched as one; `!OK` is all but OK."""

    def pair(label, value):
        if value.startswith("!"):
            return f'{label}!="{value[1:]}"'
        return f'{label}{"=~" if any(c in value for c in "|$*") else "="}"{value}"'

    pairs = [pair(label, value) for label, value in matchers.items()]
    return f"{metric}{{{','.join(pairs)}}}" if matchers else metric


# ── How one series looks ─────────────────────────────────────────────────────────────────


def fixed(colour):
    return {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}


def named(name, colour):
    """A series that a query finds under another name."""
    return [{"id": "displayName", "value": name}, fixed(colour)]


def line(colour, dashed=False, width=2, fill=0):
    properties = [
        fixed(colour),
        {"id": "custom.fillOpacity", "value": fill},
        {"id": "custom.lineWidth", "value": width},
    ]
    if dashed:
        properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [6, 4]}})
    return properties


def unstacked(colour):
    return line(colour) + [{"id": "custom.stacking", "value": {"mode": "none", "group": "A"}}]


def states(pairs):
    """Numbers that stand for words: `[(0, "down", RED), (1, "up", GREEN)]`."""
    options = {
        str(number): {"text": text, "color": colour, "index": number} for number, text, colour in pairs
    }
    return [{"type": "value", "options": options}]


BREAKER_MAPPING = states((number, text, colour) for number, (_, text, colour) in enumerate(BREAKER_STATES))


# ── Panels ───────────────────────────────────────────────────────────────────────────────


def panel(kind, title, says, queries, unit, *, w, h, defaults=None, options=None, series=None, links=(), instant=False):
    """`queries` are (expression, legend) or (expression, legend, properties of that series);
    `series` gives properties to those that a query finds by name."""
    overrides = [
        {"matcher": {"id": "byName", "options": query[1]}, "properties": query[2]} for query in queries if len(query) > 2
    ]
    overrides += [
        {"matcher": {"id": "byRegexp" if name.startswith("/") else "byName", "options": name}, "properties": properties}
        for name, properties in (series or {}).items()
    ]
    return {
        "type": kind,
        "title": title,
        "description": says,
        "datasource": DATA,
        "gridPos": {"w": w, "h": h},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATA,
                "expr": query[0],
                "legendFormat": query[1],
                "editorMode": "code",
                "instant": instant,
                "range": not instant,
            }
            for number, query in enumerate(queries)
        ],
        "fieldConfig": {
            "defaults": {"unit": unit, "mappings": [], **(defaults or {})},
            "overrides": overrides,
        },
        "options": options or {},
        "links": [
            {"title": text, "url": f"{url}{'&' if '?' in url else '?'}${{__url_time_range}}", "targetBlank": False}
            for text, url in links
        ],
    }


def thresholds(*steps):
    """`thresholds(GREEN, (0.95, RED))`: green, and red from 0.95."""
    return {
        "mode": "absolute",
        "steps": [
            {"color": steps[0], "value": None},
            *({"color": colour, "value": value} for value, colour in steps[1:]),
        ],
    }


def stat(title, says, query, unit, limits, *, w=4, h=3, decimals=None, none="no data", mappings=(), links=()):
    nothing = {
        "type": "special",
        "options": {"match": "null+nan", "result": {"text": none, "color": GREY, "index": 9}},
    }
    defaults = {
        "color": {"mode": "thresholds"},
        "thresholds": limits,
        "mappings": [*mappings, nothing],
        "noValue": none,
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "center",
        "textMode": "value",
        "orientation": "auto",
    }
    return panel(
        "stat", title, says, [(query, "")], unit, w=w, h=h, defaults=defaults, options=options, links=links, instant=True
    )


def graph(
    title,
    says,
    queries,
    unit,
    *,
    w=8,
    h=7,
    stacked=False,
    fill=0,
    bars=False,
    limit=None,
    most=None,
    at_least=None,
    log=False,
    series=None,
    links=(),
):
    """A line per series, or areas one upon another. `limit` is (value, colour): a dashed line.
    The axis ends at `most`, and shows `at_least` so much: nothing is then drawn as nothing."""
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineInterpolation": "linear",
        "lineWidth": 0 if stacked else 2,
        "fillOpacity": 80 if stacked or bars else fill,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "axisPlacement": "auto",
        "axisLabel": "",
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if limit else "off"},
    }
    defaults = {
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "thresholds": thresholds("transparent", limit) if limit else thresholds(GREEN),
    }
    if not log:
        defaults["min"] = 0
    if at_least is not None:
        custom["axisSoftMax"] = at_least
    if most is not None:
        defaults["max"] = most
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel(
        "timeseries", title, says, queries, unit, w=w, h=h, defaults=defaults, options=options, series=series, links=links
    )


def timeline(title, says, queries, mappings, *, w=24, h=4, unit="none", limits=None, series=None, links=()):
    """A bar per series that changes its colour with its state."""
    defaults = {
        "color": {"mode": "thresholds"},
        "thresholds": limits or thresholds(GREY),
        "mappings": mappings,
        "custom": {"lineWidth": 0, "fillOpacity": 85},
    }
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "center",
        "rowHeight": 0.85,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel(
        "state-timeline", title, says, queries, unit, w=w, h=h, defaults=defaults, options=options, series=series, links=links
    )


def row(title, *panels):
    return (title, panels)


# ── Dashboards ───────────────────────────────────────────────────────────────────────────


def variable(name, says, metric, label, default=None):
    """`default` None means all of them."""
    query = f"label_values({metric}, {label})"
    return {
        "name": name,
        "label": name,
        "description": says,
        "type": "query",
        "datasource": DATA,
        "query": {"query": query, "refId": f"Prometheus-{name}"},
        "definition": query,
        "multi": True,
        "includeAll": True,
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "skipUrlSync": False,
        "options": [],
        "regex": "",
        "current": {"text": [default or "All"], "value": [default or "$__all"]},
    }


def mark(name, colour, expression, title, time_is_value=False):
    """An annotation: a line through every panel wherever `expression` has a value."""
    annotation = {
        "name": name,
        "datasource": DATA,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "target": {"refId": "Anno", "expr": expression, "interval": "5s"},
        "titleFormat": title,
    }
    if time_is_value:
        annotation["useValueForTime"] = True
    return annotation


def dashboard(uid, title, says, rows, variables, marks, links):
    """Panels get their ids and places in the order in which they are written: from left to
    right, and below when a line is full."""
    panels, y, number = [], 0, 0
    for name, members in rows:
        number += 1
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append({"type": "row", "id": number, "title": name, "collapsed": False, "gridPos": place, "panels": []})
        x, y, tallest = 0, y + 1, 0
        for member in members:
            number += 1
            size = member["gridPos"]
            if x + size["w"] > 24:
                x, y, tallest = 0, y + tallest, 0
            place = {"x": x, "y": y, **size}
            panels.append({"id": number, **member, "gridPos": place})
            x, tallest = x + size["w"], max(tallest, size["h"])
        y += tallest
    built_in = {
        "name": "Annotations & Alerts",
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "type": "dashboard",
    }
    return {
        "uid": uid,
        "title": title,
        "description": says,
        "tags": ["resilience", "grpc"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m"]},
        "timezone": "browser",
        "weekStart": "",
        "links": [
            {
                "type": "link",
                "title": text,
                "tooltip": tip,
                "url": url,
                "icon": "dashboard",
                "keepTime": True,
                "includeVars": False,
                "targetBlank": False,
                "asDropdown": False,
                "tags": [],
            }
            for text, tip, url in links
        ],
        "templating": {"list": variables},
        "annotations": {"list": [built_in, *marks]},
        "panels": panels,
    }

"""The dashboard of the client: what it does while the service behind it fails."""

from panels import *  # noqa: F403: a vocabulary, made for this

CREATE = "order.OrderService/CreateOrder"
# The labels of the two families of metrics: gRPC's own, and ours.
GRPC = {"grpc_target": "$upstream", "grpc_method": "$method"}
OURS = {"upstream": "$upstream", "method": "$method"}
UPSTREAM = {"upstream": "$upstream"}

ORDERS_FAILED = "refused|upstream|deadline|storage"
ATTEMPT_FAILED = "UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|UNKNOWN|DATA_LOSS"

SERVICES = "/d/services?var-service=${upstream}"

STATUSES = {
    "OK": [fixed(GREEN)],
    "UNAVAILABLE": [fixed(RED)],
    "DEADLINE_EXCEEDED": [fixed(ORANGE)],
    "RESOURCE_EXHAUSTED": [fixed(BLUE)],
    "CANCELLED": [fixed(GREY)],
    "INTERNAL": [fixed("dark-red")],
    "UNKNOWN": [fixed("light-red")],
}
FAULTS = {
    "error": [fixed(RED)],
    "hang": [fixed(ORANGE)],
    "latency": [fixed(YELLOW)],
    "capacity": [fixed(BLUE)],
}
ORDERS = {
    "none": named("created", GREEN),
    "repeated": named("created before: the same request", BLUE),
    "user_invalid": named("declined: user may not order", BLUE),
    "bad_request": named("declined: malformed", GREY),
    "already_exists": named("declined: the id has another order", GREY),
    "upstream": named("error: user-service failed", RED),
    "refused": named("error: refused here", PURPLE),
    "deadline": named("error: out of time", ORANGE),
    "storage": named("error: not stored", YELLOW),
    "overload": named("turned away: too many", "dark-purple"),
    "too_late": named("turned away: too late to begin", "dark-orange"),
}

# Calls that never became an order, because there were too many: `orders_total` knows nothing
# of them, and whoever placed them had no answer all the same.
TURNED_AWAY = rates("grpc_server_calls_not_begun_total", grpc_method=CREATE)
WELL = (
    f"1 - sum({rates('orders_total', reason=ORDERS_FAILED)} or {TURNED_AWAY})"
    f" / sum({rates('orders_total')} or {TURNED_AWAY})"
)
BY_REASON = f"sum by (reason) ({rates('orders_total')} or {TURNED_AWAY})"
# What is turned away is turned away at once, and would make the rest look quick.
READ = {"grpc_method": CREATE, "grpc_status": "!RESOURCE_EXHAUSTED"}
ATTEMPTS = rate("grpc_client_attempt_started_total", **GRPC)
ANSWERED = (
    f"1 - {rate('grpc_client_attempt_duration_seconds_count', **GRPC, grpc_status=ATTEMPT_FAILED)}"
    f" / {rate('grpc_client_attempt_duration_seconds_count', **GRPC)}"
)

verdict = row(
    "Is it failing, and is anybody making it fail?",
    stat(
        "Orders that went well",
        "Share of orders that ended as they should just now: created, or a proper no (unknown or inactive user, "
        "malformed request). The rest got an error because user-service could not be asked or the order not be stored, or was "
        "turned away because there were too many. Green from 99 %, red below 95 %.",
        WELL,
        SHARE,
        thresholds(RED, (0.95, ORANGE), (0.99, GREEN)),
        decimals=1,
        none="no orders",
    ),
    stat(
        "Slowest 1 % of orders",
        "The p99 of CreateOrder, measured in order-service: 99 of 100 callers waited less. Those who were turned away at once "
        "are not among them. Orange from 250 ms (one attempt timed out on the way), red from 1 s (the default deadline of a "
        "call).",
        quantile(0.99, "grpc_server_call_duration_seconds", **READ),
        SECONDS,
        thresholds(GREEN, (0.25, ORANGE), (1, RED)),
        none="no orders",
    ),
    stat(
        "Error budget burn, 1 h",
        "How many times faster than promised orders have failed in the last hour. At 1 the month's error budget lasts a "
        "month; from 6 (orange) and 14.4 (red) somebody is paged.",
        "max(job:orders_errors:ratio_rate1h) / scalar(slo:orders_error_budget:ratio)",
        "suffix: ×",
        thresholds(GREEN, (1, YELLOW), (6, ORANGE), (14.4, RED)),
        decimals=1,
        none="no orders",
        links=[("Orders, and the services", "/d/services")],
    ),
    stat(
        "Alerts firing",
        "Alerts that fire just now: pages and tickets. What each means, and what to do, is in grafana/RUNBOOK.md.",
        'count(ALERTS{alertstate="firing"}) or vector(0)',
        COUNT,
        thresholds(GREEN, (1, ORANGE)),
        decimals=0,
    ),
    stat(
        "Attempts per call",
        "What is sent to user-service for each call that was asked for. 1 when all is well; above it retries are at work; "
        "below it the breaker keeps calls away. Orange from 1.2, red from 1.45, which is the most the load test allows while "
        "30 % of attempts fail. Naive three attempts reach 3 in an outage.",
        f"{ATTEMPTS} / {rate('resilience_calls_total', **OURS)}",
        "none",
        thresholds(GREEN, (1.2, ORANGE), (1.45, RED)),
        decimals=2,
        none="no calls",
    ),
    stat(
        "Attempts answered",
        "Share of the attempts sent to user-service that it answered, business answers such as NOT_FOUND included. The rest "
        "failed, timed out or were turned away. Green from 99 %, red below 90 %: compare with the first figure to see what "
        "the client made good.",
        ANSWERED,
        SHARE,
        thresholds(RED, (0.9, ORANGE), (0.99, GREEN)),
        decimals=1,
        none="none sent",
    ),
    timeline(
        "Cause and effect: the faults that were set, and the circuit breaker",
        "Above: the faults that the chaos switch of user-service is set to, and the share of calls that each hits. Below: what "
        "the circuit breaker made of it. Open lasts 0.5 to 1 s before probes go out, so a short state can fall between two "
        "scrapes; Time in each state counts all of it.",
        [
            ('max by (kind) (chaos_in_force_ratio{job=~"$upstream"})', "fault: {{kind}}"),
            (f"max by (upstream) ({breaker_state('job, instance, upstream')})", "circuit to {{upstream}}"),
        ],
        [],
        h=5,
        series={
            "/^fault/": [
                {"id": "unit", "value": SHARE},
                {"id": "mappings", "value": states([(0, "off", "transparent")])},
                {"id": "thresholds", "value": thresholds(ORANGE)},
            ],
            "/^circuit/": [{"id": "mappings", "value": BREAKER_MAPPING}],
        },
    ),
    graph(
        "Orders, by how they ended",
        "Every CreateOrder, by result. Green and blue are proper answers. Red: user-service was asked and failed. Purple: "
        "refused here without asking it; dark, without reading it, as there were too many. Orange: the time ran out.",
        [(BY_REASON, "{{reason}}")],
        PER_SECOND,
        w=12,
        h=8,
        stacked=True,
        series=ORDERS,
        links=[("Orders, and the services", "/d/services")],
    ),
    graph(
        "How long callers wait for an order",
        "CreateOrder measured in order-service, from histograms, without those that were turned away at once. The dashed line "
        "is 1 s, the default deadline. Quantiles are read off histogram buckets: just past 1 s, the next edge is 2.5 s.",
        quantiles("grpc_server_call_duration_seconds", **READ),
        SECONDS,
        w=12,
        h=8,
        limit=(1, RED),
        links=[("Orders, and the services", "/d/services")],
    ),
)

cost = row(
    "What does user-service have to carry? Calls beside attempts",
    graph(
        "Load on user-service",
        "Calls asked for, and attempts sent. Attempts above calls are retries: extra load on a service in trouble. Attempts "
        "below calls are the breaker taking load away.",
        [
            (rate("resilience_calls_total", **OURS), "calls", line(BLUE)),
            (ATTEMPTS, "attempts", line(ORANGE, fill=20)),
        ],
        PER_SECOND,
    ),
    graph(
        "Calls, by how they ended",
        "One per call that order-service made, whatever happened inside. Yellow is what retries saved. Purple was refused "
        "here, and cost user-service nothing.",
        [(rate("resilience_calls_total", "outcome", **OURS), "{{outcome}}")],
        PER_SECOND,
        stacked=True,
        series={
            "ok": [fixed(GREEN)],
            "ok_after_retry": named("ok after retry", YELLOW),
            "failed": [fixed(RED)],
            "rejected": named("refused here", PURPLE),
            "cancelled": named("caller went away", GREY),
        },
    ),
    graph(
        "How long a whole call takes",
        "Everything included: waiting for a slot, attempts, backoff. The dashed line is the default deadline.",
        quantiles("grpc_client_call_duration_seconds", **GRPC),
        SECONDS,
        limit=(1, RED),
    ),
)

retries = row(
    "What is tried again, and why not the rest?",
    graph(
        "Retries sent, and why there were no more",
        "The line is retries sent. The areas are failed calls that were not retried again, by what stopped them: all attempts "
        "used, no budget, no time, an open circuit or a full limit, or a failure that must not be repeated.",
        [
            (rate("grpc_client_call_retries_sum", **GRPC), "retries sent", unstacked("text")),
            (rate("resilience_retries_stopped_total", "reason", **UPSTREAM), "{{reason}}"),
        ],
        PER_SECOND,
        stacked=True,
        series={
            "attempts": named("attempts used up", RED),
            "budget": named("budget empty", PURPLE),
            "deadline": named("no time left", ORANGE),
            "refused": named("circuit open or limit full", "dark-purple"),
            "not_retryable": named("not retryable", BLUE),
            "not_idempotent": named("not idempotent", "light-blue"),
            "pushback": named("server said no", YELLOW),
            "committed": named("answer had begun", GREY),
            "too_large": named("too large to repeat", "dark-yellow"),
        },
    ),
    graph(
        "Retry budget",
        "Retries that may still be made. Each retry takes one; each call that succeeds at once pays 0.2 back, up to 20. At "
        "zero nothing is retried: this is what keeps retries from becoming a storm.",
        [(f'min by (upstream) ({select("resilience_retry_budget_tokens", **UPSTREAM)})', "retries left for {{upstream}}")],
        COUNT,
        fill=25,
        limit=(1, RED),
        series={"/^retries left/": [fixed(BLUE)]},
    ),
    graph(
        "Time spent between attempts",
        "Backoff: how long a call that was retried waited for it, in all. 25 ms to 250 ms by default, each time a random part "
        "of it. Zero when nothing was retried.",
        [
            (f"({expression} >= 0) or vector(0)", name, style)
            for expression, name, style in quantiles("grpc_client_call_retry_delay_seconds", **GRPC)
        ],
        SECONDS,
    ),
)

breaker = row(
    "What does the circuit breaker see, and do?",
    timeline(
        "Circuit breaker, by instance",
        "State at each scrape, of each instance: breakers decide by themselves.",
        [(breaker_state("job, instance, upstream"), "{{instance}} to {{upstream}}")],
        BREAKER_MAPPING,
        h=3,
    ),
    graph(
        "Failure share in the breaker's window",
        "The breaker trips when it is sure that the true share of failures is above the dashed line (0.8 by default), or after "
        "50 failures in a row. A service that still answers a quarter of its calls is worth calling. Zero again after each "
        "close: the window starts empty.",
        [
            (
                f'max by (upstream) ({select("resilience_circuit_breaker_failure_ratio", **UPSTREAM)})',
                "failures of {{upstream}}",
            )
        ],
        SHARE,
        fill=15,
        most=1,
        limit=(0.8, RED),
        series={"/^failures/": [fixed(RED)]},
    ),
    graph(
        "Time in each state",
        "Share of the time that the breaker spent in each state, counted by the breaker itself: exact, however short a state "
        "was.",
        [
            (
                "avg by (state) (rate("
                + select("resilience_circuit_breaker_state_seconds", **UPSTREAM, state="closed|half_open|open")
                + "[$__rate_interval])) or avg by (state) (rate("
                + select("resilience_circuit_breaker_state_seconds", **UPSTREAM)
                + "[$__rate_interval])) > 0",
                "{{state}}",
            )
        ],
        SHARE,
        stacked=True,
        most=1,
        series={state: named(text, colour) for state, text, colour in BREAKER_STATES},
    ),
    graph(
        "Transitions, and their reasons",
        "Changes of state per second, by reason. Trips are what opened a closed circuit; the rest is probing, which goes on "
        "every second or so while user-service is down.",
        [
            (
                f'{total("reason")} (rate('
                f'{select("resilience_circuit_breaker_transitions_total", **UPSTREAM)}[$__rate_interval]))',
                "{{reason}}",
            )
        ],
        PER_SECOND,
        bars=True,
        stacked=True,
        series={
            "failure_ratio": named("trip: failure share", RED),
            "consecutive_failures": named("trip: failures in a row", "dark-red"),
            "open_expired": named("probing begins", YELLOW),
            "probes_failed": named("probes failed", ORANGE),
            "probes_silent": named("probes not heard of", PURPLE),
            "probes_succeeded": named("probes succeeded: closed", GREEN),
            "manual": named("by hand", BLUE),
        },
    ),
)

limits = row(
    "Do calls wait here, or get refused?",
    graph(
        "Slots",
        "Attempts in flight, attempts waiting for a slot, and the limit. A hung user-service fills the slots; the limit keeps "
        "that from spreading.",
        [
            (f'sum({select("resilience_concurrency_in_flight", **UPSTREAM)})', "in flight", line(BLUE, fill=30)),
            (f'sum({select("resilience_concurrency_queued", **UPSTREAM)})', "waiting", line(ORANGE, fill=30)),
            (f'sum({select("resilience_concurrency_limit", **UPSTREAM)})', "limit", line(RED, dashed=True)),
        ],
        COUNT,
    ),
    graph(
        "Time spent waiting for a slot",
        "By the attempts that had to wait: 100 ms at most by default, then they are refused (the dashed line). Zero when "
        "nothing waited.",
        [
            (f"({expression} >= 0) or vector(0)", name, style)
            for expression, name, style in quantiles("resilience_concurrency_queue_wait_seconds", **UPSTREAM)
        ],
        SECONDS,
        limit=(0.1, RED),
        at_least=0.12,
    ),
    graph(
        "Refused here, and why",
        "Attempts that were never sent. Circuit open: the breaker. Limit reached and queue timeout: all slots are taken. "
        "Deadline: no time was left.",
        [(rate("resilience_rejections_total", "reason", **UPSTREAM), "{{reason}}")],
        PER_SECOND,
        stacked=True,
        series={
            "circuit_open": named("circuit open", PURPLE),
            "limit_reached": named("limit reached", ORANGE),
            "queue_timeout": named("queue timeout", YELLOW),
            "deadline": named("no time left", RED),
        },
    ),
)

upstream = row(
    "What is wrong with user-service, and is it injected?",
    graph(
        "Faults injected into user-service",
        "What the chaos switch did to calls, by kind. The cause, on the same time axis as its effects. Zero when chaos is off.",
        [(rate("chaos_injected_total", "kind", job="$upstream", method="$method"), "{{kind}}")],
        PER_SECOND,
        series=FAULTS,
    ),
    graph(
        "What user-service answered",
        "Attempts by status, as the client classifies them: what really came back from user-service, before any retry. "
        "DEADLINE_EXCEEDED is an attempt that got no answer in its time.",
        [(rate("grpc_client_attempt_duration_seconds_count", "grpc_status", **GRPC), "{{grpc_status}}")],
        PER_SECOND,
        stacked=True,
        series=STATUSES,
        links=[("What it says itself", SERVICES)],
    ),
    graph(
        "How long one attempt takes",
        "Seen by the client, with user-service's own p99 dashed. Both high: user-service is slow. Only the client's high: the "
        "time is lost on the way, or user-service does not answer at all. Quantiles are read off histogram buckets: just past "
        "250 ms, the attempt timeout (the dashed line), the next edge is 500 ms.",
        quantiles("grpc_client_attempt_duration_seconds", **GRPC)
        + [
            (
                quantile(0.99, "grpc_server_call_duration_seconds", job="$upstream", grpc_method="$method"),
                "p99 inside user-service",
                line(BLUE, dashed=True),
            )
        ],
        SECONDS,
        limit=(0.25, RED),
        links=[("What it says itself", SERVICES)],
    ),
    timeline(
        "Processes, as Prometheus sees them",
        "Green: the last scrape was answered. Red: it was not; the process is gone, frozen or cut off. A marker above shows "
        "when a process started.",
        [('max by (job, instance) (up{job=~"order-service|$upstream"})', "{{job}} ({{instance}})")],
        states([(0, "down", RED), (1, "up", GREEN)]),
        h=4,
    ),
)

runtime = row(
    "Do the processes have what they need?",
    graph(
        "Memory",
        "Resident memory of each process. It must come back to where it was when a fault is over.",
        [('process_resident_memory_bytes{job=~"order-service|$upstream"}', "{{job}} ({{instance}})")],
        BYTES,
        links=[("More of each process", "/d/services")],
    ),
    graph(
        "CPU",
        "Cores in use by each process.",
        [('rate(process_cpu_seconds_total{job=~"order-service|$upstream"}[$__rate_interval])', "{{job}} ({{instance}})")],
        COUNT,
        links=[("More of each process", "/d/services")],
    ),
    graph(
        "Busy share of the runtime",
        "How much of the time tokio's workers have something to do. Near 1, tasks wait for a thread, and every timer here is "
        "late. Red from 0.8.",
        [
            (
                'rate(tokio_workers_busy_seconds_total{job=~"order-service|$upstream"}[$__rate_interval])'
                ' / tokio_workers{job=~"order-service|$upstream"}',
                "{{job}} ({{instance}})",
            )
        ],
        SHARE,
        most=1,
        limit=(0.8, RED),
    ),
)


def happened(metric, by, **matchers):
    """Where a counter has grown since the last look: each by itself, as one that began anew hides what others grew by."""
    selected = select(metric, **matchers)
    return f"sum by ({by}) ({selected} - {selected} offset $__interval > 0)"


def marks(upstream):
    """What tells cause from effect in a panel that knows only one of the two."""
    transitions = "resilience_circuit_breaker_transitions_total"
    in_force = f"max by (job, kind) ({select('chaos_in_force_ratio', job=upstream)})"
    before = f"max by (job, kind) ({select('chaos_in_force_ratio', job=upstream)} offset $__interval)"
    return [
        mark(
            "Breaker opened",
            "red",
            happened(transitions, "upstream, reason", upstream=upstream, **{"from": "closed", "to": "open"}),
            "Circuit to {{upstream}} opened: {{reason}}",
        ),
        mark(
            "Breaker closed",
            "green",
            happened(transitions, "upstream, reason", upstream=upstream, to="closed"),
            "Circuit to {{upstream}} closed again: {{reason}}",
        ),
        mark(
            "Breaker set by hand",
            "purple",
            happened(transitions, "upstream, to, reason", upstream=upstream, to="forced_open|forced_closed|disabled"),
            "Circuit to {{upstream}} set to {{to}}: {{reason}}",
        ),
        mark("Chaos on", "orange", f"{in_force} > 0 and {in_force} != {before}", "Chaos in {{job}}: {{kind}} set"),
        mark(
            "Chaos off",
            "yellow",
            f"sum by (job) ({in_force}) == 0 and sum by (job) ({before}) > 0",
            "Chaos in {{job}}: off",
        ),
        mark(
            "Load test phase",
            "#8a94a8",
            "max by (phase) (load_test_phase) == 1 unless max by (phase) (load_test_phase offset $__interval) == 1",
            "Load test: {{phase}}",
        ),
        mark(
            "Process started",
            "blue",
            f"{select('process_start_time_seconds', job=f'order-service|{upstream}')} * 1000",
            "{{job}} started ({{instance}})",
            time_is_value=True,
        ),
    ]


def client():
    return dashboard(
        "resilience",
        "Resilience: what the client does while user-service fails",
        "Read it top to bottom: is it failing, what does that cost, what is tried again, what does the breaker do, who waits, "
        "whose fault is it. Every panel shares one time axis with the faults that are injected.",
        [verdict, cost, retries, breaker, limits, upstream, runtime],
        [
            variable(
                "upstream",
                "The remote service that is called through the client. Also the name of its Prometheus job.",
                "resilience_calls_total",
                "upstream",
                "user-service",
            ),
            variable("method", "The methods called.", "resilience_calls_total", "method"),
        ],
        marks("$upstream"),
        [("Services", "Rate, errors and duration of each service; orders by status", "/d/services")],
    )

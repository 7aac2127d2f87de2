"""The dashboard of the services: rate, errors and duration of each, as it sees itself."""

from panels import *  # noqa: F403: a vocabulary, made for this
from resilience import BY_REASON, ORDERS, STATUSES, marks

SERVICES = {
    "order-service": "Its answers of ERROR are gRPC OK: see the row above for what orders came to.",
    "user-service": "Its own view: a call that never reached it, or that it never answered, is missing here and shows in "
    "Resilience.",
}

orders = row(
    "What became of the orders?",
    graph(
        "Orders by status",
        "What CreateOrder answered: CREATED, ERROR (a proper no, or the user service could not be asked), or INVALID_ARGUMENT.",
        [(rate("orders_total", "status"), "{{status}}")],
        PER_SECOND,
        stacked=True,
        series={"created": [fixed(GREEN)], "error": [fixed(RED)], "invalid": [fixed(GREY)]},
        links=[("What the client did about it", "/d/resilience")],
    ),
    graph(
        "Orders by reason",
        "The same orders, by why, and those that were turned away unread because there were too many. Green and blue are "
        "proper answers. Red: user-service was asked and failed. Purple: refused without asking it. Orange: the time ran out.",
        [(BY_REASON, "{{reason}}")],
        PER_SECOND,
        stacked=True,
        series=ORDERS,
        links=[("What the client did about it", "/d/resilience")],
    ),
    graph(
        "Error budget burn",
        "How many times faster than promised orders fail. 1 spends a month's error budget in a month. Somebody is paged when "
        "the last hour is above 14.4 (the dashed line) and the last five minutes are too, or six hours above 6.",
        [
            ("job:orders_errors:ratio_rate5m / on () group_left () slo:orders_error_budget:ratio", "5 min", line(GREY)),
            ("job:orders_errors:ratio_rate1h / on () group_left () slo:orders_error_budget:ratio", "1 h", line(RED)),
            ("job:orders_errors:ratio_rate6h / on () group_left () slo:orders_error_budget:ratio", "6 h", line(ORANGE)),
            ("job:orders_errors:ratio_rate3d / on () group_left () slo:orders_error_budget:ratio", "3 days", line(BLUE)),
        ],
        "suffix: ×",
        limit=(14.4, RED),
    ),
)


def red(service, says):
    """Rate, errors, duration, and what is under way."""
    mine = {"job": service, "grpc_method": "$method"}
    calls = "grpc_server_call_duration_seconds"
    return row(
        f"How is {service}?",
        graph(
            f"Rate of {service}",
            f"Calls that arrived, by method. Health checks and reflection are not counted. {says}",
            [(rate("grpc_server_call_started_total", "grpc_method", **mine), "{{grpc_method}}")],
            PER_SECOND,
            w=6,
        ),
        graph(
            f"Errors of {service}",
            f"Share of calls that ended with a status other than OK, by status. CANCELLED: the caller went away. {says}",
            [
                (
                    f"{rate(calls + '_count', 'grpc_status', **mine, grpc_status='!OK')} / ignoring (grpc_status) group_left () "
                    f"{rate(calls + '_count', **mine)}",
                    "{{grpc_status}}",
                )
            ],
            SHARE,
            w=6,
            stacked=True,
            at_least=0.1,
            series=STATUSES,
        ),
        graph(
            f"Duration in {service}",
            "From a call's arrival to the last byte of its answer, from histograms. The dashed line is 1 s, the default "
            f"deadline of a call. {says}",
            quantiles(calls, **mine),
            SECONDS,
            w=6,
            limit=(1, RED),
        ),
        graph(
            f"Calls under way in {service}",
            "Calls that arrived and have not ended. A hang shows here first.",
            [
                (
                    f"sum by (instance) ({select('grpc_server_call_started_total', **mine)})"
                    f" - sum by (instance) ({select(calls + '_count', **mine)})",
                    "{{instance}}",
                )
            ],
            COUNT,
            w=6,
            fill=25,
        ),
    )


# A load test comes and goes. While there is none, a line at zero says so.
OUTCOMES = f'{rate("load_test_calls_total", "outcome")} or on () label_replace(vector(0), "outcome", "no load test", "", "")'

load_test = row(
    "What does the load test see?",
    graph(
        "Orders, as the load test counts them",
        "Calls that ended, by what came of them, as their caller sees it: created, refused at once, failed, an error of the "
        "call itself, no answer within 3 s. Not started: the load test had too many open. The grey marks are its phases.",
        [(OUTCOMES, "{{outcome}}")],
        PER_SECOND,
        w=16,
        stacked=True,
        series={
            "created": [fixed(GREEN)],
            "refused": [fixed(PURPLE)],
            "failed": [fixed(RED)],
            "error": [fixed("dark-red")],
            "no_answer": named("no answer", ORANGE),
            "not_started": named("not started", GREY),
            "no load test": [fixed(GREY)],
        },
    ),
    graph(
        "Late, and whose fault it is",
        "Answers later than the deadline and 50 ms: never, if the client keeps its promise. Starts more than 20 ms late: the "
        "load test itself, or its machine, does not keep up, and the figures say less about the services.",
        [
            (f"{rate('load_test_calls_answered_late_total')} or vector(0)", "late answers", line(RED)),
            (f"{rate('load_test_calls_started_late_total')} or vector(0)", "late starts", line(GREY)),
            (f"{rate('load_test_calls_started_total')} or vector(0)", "all starts", line(BLUE)),
        ],
        PER_SECOND,
        at_least=10,
    ),
)


def each(expression):
    """One series for each process that was chosen."""
    return [(expression.replace("SERVICE", '{job=~"$service"}'), "{{job}} ({{instance}})")]


runtime = row(
    "Do the processes have what they need?",
    graph(
        "Memory of each process",
        "Resident memory. In the containers of docker-compose.yml the limit is 128 MiB (the dashed line).",
        each("process_resident_memory_bytesSERVICE"),
        BYTES,
        w=6,
        limit=(128 * 1024 * 1024, RED),
    ),
    graph(
        "CPU of each process",
        "Cores in use.",
        each("rate(process_cpu_seconds_totalSERVICE[$__rate_interval])"),
        COUNT,
        w=6,
    ),
    graph(
        "Busy share of the runtime",
        "How much of the time tokio's workers have something to do. Near 1, tasks wait for a thread, and every timer is late. "
        "The dashed line is 0.8.",
        each("rate(tokio_workers_busy_seconds_totalSERVICE[$__rate_interval]) / tokio_workersSERVICE"),
        SHARE,
        w=6,
        most=1,
        limit=(0.8, RED),
    ),
    graph(
        "Tasks that wait for a thread",
        "Ready to run, and not running: the queue that all workers share. More than a few, for longer than a moment, means "
        "that there is not enough CPU, or that something blocks a worker.",
        each("tokio_global_queue_depthSERVICE"),
        COUNT,
        w=6,
        at_least=10,
    ),
    graph(
        "Tasks alive",
        "Connections and calls, mostly. What only grows is a leak.",
        each("tokio_alive_tasksSERVICE"),
        COUNT,
        w=6,
    ),
    graph(
        "Open files",
        "Sockets, mostly, with their limit dashed. At the limit no connection is accepted.",
        [
            ('process_open_fds{job=~"$service"}', "{{job}} ({{instance}})"),
            ('min(process_max_fds{job=~"$service"})', "limit", line(RED, dashed=True)),
        ],
        COUNT,
        w=6,
        log=True,
    ),
    graph(
        "How long a scrape takes",
        "What it costs to be watched. Prometheus gives up after 4 s.",
        each("scrape_duration_secondsSERVICE"),
        SECONDS,
        w=6,
    ),
    graph(
        "Running since",
        "Time since each process started. A drop to zero is a restart.",
        each("time() - process_start_time_secondsSERVICE"),
        SECONDS,
        w=6,
    ),
)


def services():
    return dashboard(
        "services",
        "Services: rate, errors and duration",
        "What each service says of itself, and what became of the orders. For what the client between them does, see "
        "Resilience.",
        [orders, *(red(service, says) for service, says in SERVICES.items()), load_test, runtime],
        [
            variable(
                "service", "The services whose processes are shown below.", "grpc_server_call_started_total", "job"
            ),
            variable("method", "The methods served.", "grpc_server_call_started_total", "grpc_method"),
        ],
        marks(".*"),
        [("Resilience", "What the client does while user-service fails", "/d/resilience")],
    )

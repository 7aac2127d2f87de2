#!/usr/bin/env python3
"""Faults from outside, while orders flow: what happens to containers and networks.

    faults.py [NAME...]     all of them, or those whose names begin so

Wants the stack of docker-compose.yml up (COMPOSE_PROJECT_NAME says which), and root, for
signals and packet filters. For each fault: no answer later than the deadline of the calls
behind it and 100 ms, from the moment at which an order should have been sent; nobody has an
order who may not; the breaker opens and closes again; orders are well again 3 s after the
fault's end; the order service was not restarted, and its memory is what it was.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
from orders import method, order

RATE = 60
BEFORE_S, FAULT_S, JUDGED_S = 1.5, 4.0, 1.5
# TCP notices silence after 2 s (TCP_USER_TIMEOUT): the fault lasts longer.
SILENCE_S = 8.0
DEADLINE_S, PAST_DEADLINE_S = 1.0, 0.1
WELL_AFTER_S, WELL_SHARE = 3.0, 0.99
MEMORY_GROWTH_MAX = 1.1
# How many times somebody has to wake for one answer: our sender, the service's reader, its
# timer, its writer, our reader, whoever waits. A control measures how late that is here.
WAKES = 6
# Waking so late so often takes as long as an attempt may (250 ms): a fault of its own, and there
# is as much time to recover from it. So long after a fault that is waited for.
STALL_S, PATIENCE_S = 0.04, 20.0
GIVE_UP_S = 4.0

# Who orders, and the name that a created order has; or why there is none.
USERS = [
    ("user-123", "Иван Иванов", None),
    ("user-456", "Мария Петрова", None),
    ("user-nobody", None, "user not found"),
    ("user-456", "Мария Петрова", None),
    ("user-123", "Иван Иванов", None),
    ("user-789", None, "user is not active"),
]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# ── What there is ────────────────────────────────────────────────────────────────────────


class Container:
    def __init__(self, service):
        self.service = service
        self.id = run("docker", "compose", "ps", "--all", "--quiet", service)

    def inspect(self):
        return json.loads(run("docker", "inspect", self.id))[0]

    def restarts(self):
        """By the restart policy, since somebody started it."""
        return self.inspect()["RestartCount"]

    def pid(self):
        """Of its process; 0 while there is none."""
        return self.inspect()["State"]["Pid"]

    def network(self):
        """The name of its network, and its address there."""
        [(name, network)] = self.inspect()["NetworkSettings"]["Networks"].items()
        return name, network["IPAddress"]

    def accepts(self, port):
        try:
            _, address = self.network()
            socket.create_connection((address, port), timeout=0.2).close()
            return True
        except (OSError, ValueError):
            return False

    def wait_until_it_accepts(self, port, within_s=20):
        until = time.monotonic() + within_s
        while not self.accepts(port):
            assert time.monotonic() < until, f"{self.service} is not back after {within_s} s"
            time.sleep(0.02)


class Metrics:
    """The order service's own page."""

    def __init__(self, container):
        _, address = container.network()
        self.url = f"http://{address}:9052/metrics"

    def read(self):
        with urllib.request.urlopen(self.url, timeout=2) as answer:
            page = answer.read().decode()
        state = re.search(r'^resilience_circuit_breaker_state\{[^}]*state="(\w+)"\} 1$', page, re.M)
        trips = re.findall(r'^resilience_circuit_breaker_transitions_total\{([^}]*)\} (\d+)$', page, re.M)
        return Look(
            time.monotonic(),
            state.group(1),
            sum(int(count) for labels, count in trips if 'from="closed"' in labels and 'to="open"' in labels),
            float(re.search(r"^process_resident_memory_bytes (\S+)$", page, re.M).group(1)),
            float(re.search(r"^process_start_time_seconds (\S+)$", page, re.M).group(1)),
        )


@dataclasses.dataclass(frozen=True)
class Look:
    at: float
    state: str
    trips: int
    memory: float
    started: float


# ── The faults ───────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def paused(users):
    run("docker", "pause", users.id)
    yield FAULT_S
    run("docker", "unpause", users.id)


@contextlib.contextmanager
def killed_by_docker(users):
    """Which the restart policy leaves alone: somebody has to start it."""
    run("docker", "kill", users.id)
    yield FAULT_S
    run("docker", "start", users.id)
    users.wait_until_it_accepts(50051)


@contextlib.contextmanager
def again_and_again(users, kill):
    """The restart policy brings it back each time, a little later each time."""
    before, until = users.restarts(), time.monotonic() + FAULT_S
    while time.monotonic() < until:
        if pid := users.pid():
            kill(pid)
        time.sleep(0.05)
    yield 0
    users.wait_until_it_accepts(50051)
    assert users.restarts() > before, f"{users.service} was not killed"


def killed_by_signal(users):
    return again_and_again(users, lambda pid: os.kill(pid, 9))


def killed_for_its_memory(users):
    """By the kernel, as its control group is over its limit."""
    return again_and_again(users, use_all_memory_of)


def control_group(pid):
    """Where the memory of a process is counted, in version 1 and 2."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return pathlib.Path("/sys/fs/cgroup/memory" + path)
        if number == "0" and pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return pathlib.Path("/sys/fs/cgroup" + path)
    raise RuntimeError(f"no control group counts the memory of {pid}")


# In the control group of the service: four processes take memory until the kernel has to kill.
GREEDY = """
import os, pathlib, sys
group, pid = sys.argv[1], sys.argv[2]
pathlib.Path(group, "cgroup.procs").write_text(str(os.getpid()))
os.fork(), os.fork()
taken = []
while os.path.exists(f"/proc/{pid}") and len(taken) < 1024:
    taken.append(bytearray(1 << 20))
"""


def use_all_memory_of(pid):
    with contextlib.suppress(OSError):  # it has ended meanwhile
        # The kernel kills what takes most, and this weighs as much as all that is allowed: it
        # will be the service, as each of the others takes a part.
        pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        group = str(control_group(pid))
        subprocess.run([sys.executable, "-c", GREEDY, group, str(pid)], check=False, timeout=10, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def disconnected(users):
    network, _ = users.network()
    run("docker", "network", "disconnect", network, users.id)
    yield FAULT_S
    run("docker", "network", "connect", "--alias", users.service, network, users.id)


@contextlib.contextmanager
def filtered(users, seconds, *rule):
    """Packets to and from the user service's port, in its own network namespace."""
    inside = ["nsenter", "--target", str(users.pid()), "--net", "iptables"]
    directions = [("INPUT", "--dport"), ("OUTPUT", "--sport")]
    for chain, port in directions:
        run(*inside, "--append", chain, "--protocol", "tcp", port, "50051", *rule, "--jump", "DROP")
    yield seconds
    for chain, port in directions:
        run(*inside, "--delete", chain, "--protocol", "tcp", port, "50051", *rule, "--jump", "DROP")


def lossy(users):
    return filtered(users, FAULT_S, "--match", "statistic", "--mode", "random", "--probability", "0.3")


def silent(users):
    return filtered(users, SILENCE_S)


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    bring: object
    # Some attempts succeed, or it is over too soon: the breaker may open, and need not.
    may_trip: bool = False


FAULTS = [
    Fault("docker pause", paused),
    Fault("kill -9, again and again", killed_by_signal),
    Fault("docker kill", killed_by_docker),
    Fault("network disconnect", disconnected),
    Fault("30 % of packets lost", lossy, may_trip=True),
    Fault("packets dropped silently", silent),
    Fault("memory limit, again and again", killed_for_its_memory),
]


# ── Orders ───────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Order:
    at: float
    name: str
    refusal: str
    took: float = GIVE_UP_S
    answer: object = None
    failure: str = "NO ANSWER"

    def well(self):
        if self.answer is None:
            return False
        if self.name:
            return self.answer.status == "CREATED"
        return self.answer.error_message == self.refusal


class Flow:
    """Orders at a steady rate, whatever becomes of the earlier ones; and how late the machine
    itself is meanwhile."""

    def __init__(self, channel):
        self.call, self.request = method(channel, "order.OrderService", "CreateOrder")
        self.stopped = threading.Event()
        self.orders, self.naps = [], []
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.send, self.control)]
        for thread in self.threads:
            thread.start()

    def send(self):
        start, number = time.monotonic(), 0
        while not self.stopped.is_set():
            at = start + number / RATE
            time.sleep(max(0, at - time.monotonic()))
            user_id, name, refusal = USERS[number % len(USERS)]
            request = order(self.request, user_id, 0.1, 0.1, 0.1)
            sent = Order(at, name, refusal)
            self.orders.append(sent)
            self.call.future(request, timeout=GIVE_UP_S).add_done_callback(lambda done, sent=sent: self.ended(sent, done))
            number += 1

    @staticmethod
    def ended(sent, done):
        sent.took = time.monotonic() - sent.at
        if done.code() == grpc.StatusCode.OK:
            sent.answer = done.result()
        else:
            sent.failure = done.code().name

    def control(self):
        while not self.stopped.is_set():
            begun = time.monotonic()
            time.sleep(0.005)
            self.naps.append((begun, time.monotonic()))

    def late(self, sent):
        """What the machine may have added to an answer."""
        end = sent.at + sent.took
        naps = [until - begun - 0.005 for begun, until in self.naps if until >= sent.at and begun <= end]
        return WAKES * max(naps, default=0)

    def last_stall(self):
        """When the machine last stood still for so long that it was a fault of its own."""
        return next((until for begun, until in reversed(self.naps) if until - begun - 0.005 >= STALL_S), 0.0)

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        until = time.monotonic() + GIVE_UP_S
        while any(sent.took == GIVE_UP_S and sent.answer is None for sent in self.orders) and time.monotonic() < until:
            time.sleep(0.05)
        return self.orders


class Watch:
    """Looks at the breaker five times a second."""

    def __init__(self, metrics):
        self.metrics, self.looks, self.stopped = metrics, [], threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        while not self.stopped.wait(0.2):
            with contextlib.suppress(OSError):
                self.looks.append(self.metrics.read())

    def end(self):
        self.stopped.set()
        self.thread.join()
        return self.looks


# ── A trial, and what must hold of it ────────────────────────────────────────────────────


def trial(fault, users, channel, metrics):
    before = metrics.read()
    flow, watch = Flow(channel), Watch(metrics)
    time.sleep(BEFORE_S)
    begun = time.monotonic()
    with fault.bring(users) as seconds:
        time.sleep(seconds)
    ended = time.monotonic()
    while True:
        well = max(ended, flow.last_stall()) + WELL_AFTER_S
        judged = min(well + JUDGED_S, ended + PATIENCE_S)
        if time.monotonic() >= judged:
            break
        time.sleep(judged - time.monotonic())
    return Seen(fault, begun, ended, well, flow.end(), flow, watch.end(), before, metrics.read())


@dataclasses.dataclass
class Seen:
    fault: Fault
    begun: float
    ended: float
    well_from: float
    orders: list
    flow: Flow
    looks: list
    before: Look
    after: Look

    def wrong(self):
        """What does not hold, in words."""
        for sent in self.orders:
            late = self.flow.late(sent)
            if sent.took > DEADLINE_S + PAST_DEADLINE_S + late:
                yield f"an answer took {sent.took:.3f} s ({late:.3f} s allowed for the machine): {sent}"
                break
        for sent in self.orders:
            if sent.answer is not None and sent.answer.status == "CREATED" and sent.answer.user_name != sent.name:
                yield f"created, and not validated: {sent}"
                break
        judged = [sent for sent in self.orders if sent.at >= self.well_from]
        well = sum(sent.well() for sent in judged)
        if not judged:
            print(f"{self.fault.name}: not judged how soon it is well: this machine stood still again and again")
        elif well < WELL_SHARE * len(judged):
            yield f"{well} of {len(judged)} orders well from {WELL_AFTER_S:.0f} s after the end"
        if not self.fault.may_trip and self.after.trips == self.before.trips:
            yield "the breaker did not open"
        if judged and self.after.state != "closed":
            yield f"the breaker is {self.after.state} in the end"
        if self.after.started != self.before.started:
            yield "the order service was restarted"
        if self.after.memory > self.before.memory * MEMORY_GROWTH_MAX:
            yield f"its memory went from {self.before.memory:.0f} to {self.after.memory:.0f} bytes"

    def row(self):
        slowest = max(self.orders, key=lambda sent: sent.took)
        opened = next((look.at for look in self.looks if look.at >= self.begun and look.state != "closed"), None)
        closed = next((look.at for look in reversed(self.looks) if look.state != "closed"), None)
        last = next((sent.at for sent in reversed(self.orders) if not sent.well()), None)

        def since(start, at):
            return "-" if at is None else f"{max(0, at - start):.1f} s"

        created = sum(sent.answer is not None and sent.answer.status == "CREATED" for sent in self.orders)
        return [
            self.fault.name,
            str(len(self.orders)),
            str(created),
            f"{slowest.took * 1000:.0f} ms",
            f"{self.flow.late(slowest) * 1000:.0f} ms",
            since(self.begun, opened),
            "-" if opened is None else since(self.ended, closed),
            since(self.ended, last) if last is not None and last >= self.begun else "-",
            f"{self.before.memory / 2**20:.1f} → {self.after.memory / 2**20:.1f} MiB",
        ]


HEAD = [
    "fault",
    "orders",
    "created",
    "slowest answer",
    "machine",
    "open after",
    "closed after its end",
    "last failure after its end",
    "memory",
]


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("|", " | ".join(cell.ljust(width) for cell, width in zip(row, widths)), "|")
        if number == 0:
            print("|", " | ".join("-" * width for width in widths), "|")


def main(*names):
    faults = [fault for fault in FAULTS if not names or fault.name.startswith(names)]
    if not faults:
        sys.exit(__doc__)
    users, orders = Container("user-service"), Container("order-service")
    metrics = Metrics(orders)
    address = run("docker", "compose", "port", "order-service", "50052")
    rows, failed = [HEAD], False
    with grpc.insecure_channel(address) as channel:
        # What is allocated once is allocated before memory is compared: threads, buffers, series.
        trial(Fault("docker pause", paused), users, channel, metrics)
        for fault in faults:
            seen = trial(fault, users, channel, metrics)
            rows.append(seen.row())
            print(*rows[-1], sep=", ", flush=True)
            for wrong in seen.wrong():
                failed = True
                print(f"  WRONG: {wrong}", flush=True)
    print()
    table(rows)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

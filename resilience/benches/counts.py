"""Counts what calls cost: instructions by callgrind, heap allocations by the program itself.

./run calls this. Only Python's own library is needed, and valgrind.

    counts.py table BINARY...        every row, as Markdown; a row of a later binary only
                                     when no earlier one has it
    counts.py gate BINARY LIMITS     the rows that LIMITS names, each against its limit
    counts.py update BINARY LIMITS   writes LIMITS anew, from what is measured
    counts.py profile BINARY ROW MANNER
                                     the functions that a row's instructions are in
"""

import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# The function whose instructions count: `measured` in src/counts.rs.
MEASURED = "resilience_bench::counts::measured"
# What the C library's allocator is entered by.
ALLOCATOR = {"malloc", "free", "calloc", "realloc", "posix_memalign", "aligned_alloc"}
# Small blocks that were freed stay with the thread, so many of each size. The seven that glibc
# keeps by itself are not always enough, and what it does with the eighth depends on the past.
MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=100"}
# How the C library moves a value from one place to another.
COPIES = ("__memcpy", "__memmove")
# What a limit has above what was measured. Allocations are whole numbers but for the
# blocks of samples, a few hundredths of one per call.
HEADROOM = 1.10
HEADROOM_ALLOCATIONS = 0.05
# A run takes a second or two; one that takes this long hangs.
RUN_SECONDS_MAX = 120
PROFILE_LINES = 60


@dataclass
class Row:
    binary: str
    table: str
    id: str
    over: str
    manner: str
    title: str

    @property
    def name(self):
        return f"{self.id} {self.manner}"


@dataclass
class Count:
    """Per call."""

    instructions: float  # outside of malloc and its kin
    allocator: float  # instructions in there
    clocks: float  # how often the clock was read
    allocations: float
    bytes: float

    def __sub__(self, other):
        return Count(*(getattr(self, f) - getattr(other, f) for f in self.__dataclass_fields__))


def rows_of(binary):
    output = subprocess.run([binary, "list"], check=True, capture_output=True, text=True).stdout
    rows = []
    for line in output.splitlines():
        table, id, over, manner, title = line.split("\t")
        rows.append(Row(binary, table, id, over, manner, title))
    return rows


def names(line, known):
    """The function that a line of a profile names; the first mention gives the name, and
    later ones its number."""
    number, name = re.fullmatch(r"c?fn=\((\d+)\)(?: (.*))?", line).groups()
    if name:
        known[number] = re.sub(r"(@@.*|'\d+)$", "", name)
    return known.get(number, "")


@dataclass
class Profile:
    """What callgrind wrote."""

    own: Counter  # instructions by function
    called: Counter  # how often, by function
    copying: Counter  # instructions of `memcpy` and its kin, by who calls them
    allocator: int = 0  # instructions in the allocator and all that it calls

    @property
    def clocks(self):
        return self.called["clock_gettime"]


def read_profile(path, known):
    profile = Profile(Counter(), Counter(), Counter())
    caller = callee = ""
    called = False
    for line in path.read_text().splitlines():
        if line.startswith("fn="):
            caller = names(line, known)
        elif line.startswith("cfn="):
            callee = names(line, known)
        elif line.startswith("calls="):
            called = True
            profile.called[callee] += int(line[6:].split()[0])
        elif line and line[0] in "0123456789+-*":
            cost = int(line.split()[1])
            if not called:
                profile.own[caller] += cost
            elif callee in ALLOCATOR and caller not in ALLOCATOR:
                profile.allocator += cost
            elif callee.startswith(COPIES):
                profile.copying[caller] += cost
            called = False
    return profile


def profiles(row):
    """What the program printed, and the profiles of its two runs."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        run = subprocess.run(
            [
                "valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}",
                f"--zero-before={MEASURED}", f"--dump-after={MEASURED}",
                row.binary, "count", row.id, row.manner,
            ],
            capture_output=True, text=True, timeout=RUN_SECONDS_MAX, env=os.environ | MALLOC,
        )  # fmt: skip
        if run.returncode != 0:
            sys.exit(f"{row.name}: {run.stderr.strip()}")
        known = {}
        try:
            short, long = (read_profile(out.with_suffix(f".{part}"), known) for part in (1, 2))
        except FileNotFoundError:
            sys.exit(f"{row.name}: callgrind did not find the function {MEASURED}")
    return map(int, run.stdout.split()), short, long


def measure(row):
    (calls, allocations, size), short, long = profiles(row)
    total = (long.own.total() - short.own.total()) / calls
    allocator = (long.allocator - short.allocator) / calls
    clocks = (long.clocks - short.clocks) / calls
    return Count(total - allocator, allocator, clocks, allocations / calls, size / calls)


def show_profile(binary, id, manner):
    """Where the instructions of a row are that its base does not have."""
    rows = {row.name: row for row in rows_of(binary)}
    row = rows.get(f"{id} {manner}") or sys.exit(f"there is no row {id} {manner}")
    own, called, copying = Counter(), Counter(), Counter()
    for sign, name in (1, row.name), (-1, f"{row.over} {manner}"):
        if name in rows:
            (calls, *_), short, long = profiles(rows[name])
            for into, field in (own, "own"), (called, "called"), (copying, "copying"):
                before, after = getattr(short, field), getattr(long, field)
                for function in after:
                    into[function] += sign * (after[function] - before[function]) / calls
    print(f"{row.name} over {row.over}: {own.total():,.0f} instructions per call, malloc and free included\n")
    print(f"{'own':>8}{'calls':>8}  function")
    for function, instructions in most(own, PROFILE_LINES):
        print(f"{instructions:+8,.0f}{called[function]:+8.2f}  {function[:150]}")
    print(f"\n{'copying':>8}  by whom values are moved: {copying.total():,.0f} of the above")
    for function, instructions in most(copying, PROFILE_LINES // 2):
        print(f"{instructions:+8,.0f}  {function[:150]}")


def most(counter, lines):
    return sorted(counter.items(), key=lambda item: -abs(item[1]))[:lines]


def measure_all(rows):
    """By name, what each costs over the row that it is compared with."""
    everything = {(row.binary, row.name): row for row in rows}
    for row in rows:
        for base in rows_of(row.binary):
            if base.id == row.over and base.manner == row.manner:
                everything[row.binary, base.name] = base
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(everything, pool.map(measure, everything.values())))
    added = {}
    for row in rows:
        base = counts.get((row.binary, f"{row.over} {row.manner}"))
        count = counts[row.binary, row.name]
        added[row.name] = count - base if base else count
    return added


def number(value):
    return f"{value:,.0f}"


def fraction(value):
    return f"{value:.2f}".rstrip("0").rstrip(".")


def table(binaries):
    rows = []
    for binary in binaries:
        known = {row.name for row in rows}
        rows += [row for row in rows_of(binary) if row.name not in known]
    counts = measure_all(rows)
    print("Per call, added over the row in brackets: answered at once / pending once.\n")
    for title in dict.fromkeys(row.table for row in rows):
        print(f"## {title}\n")
        print("| | instructions | in malloc and free | allocations | bytes | clock reads |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        done = set()
        for row in (row for row in rows if row.table == title and row.id not in done):
            done.add(row.id)
            manners = [other.manner for other in rows if other.id == row.id]
            cells = [
                [number(c.instructions), number(c.allocator), fraction(c.allocations),
                 number(c.bytes), fraction(c.clocks)]
                for c in (counts[f"{row.id} {manner}"] for manner in manners)
            ]  # fmt: skip
            merged = [" / ".join(dict.fromkeys(column)) for column in zip(*cells)]
            over = f" (over *{row.over}*)" if row.over != "-" else ""
            name = row.title if row.over != "-" else f"*{row.id}: {row.title}*"
            print(f"| {name}{over} | {' | '.join(merged)} |")
        print()


def read_limits(path):
    limits = {}
    for line in Path(path).read_text().splitlines():
        line = line.split("#")[0].split()
        if line:
            id, manner, instructions, allocations = line
            limits[f"{id} {manner}"] = (float(instructions), float(allocations))
    return limits


def gate(binary, limits_file):
    limits = read_limits(limits_file)
    rows = {row.name: row for row in rows_of(binary) if row.over != "-"}
    if missing := set(limits) ^ set(rows):
        sys.exit(f"in {limits_file} or in the program, but not in both: {', '.join(sorted(missing))}")
    counts = measure_all(list(rows.values()))
    misses = []
    print(f"{'':32}{'instructions':>14}{'limit':>8}{'allocations':>14}{'limit':>8}")
    for name, (instructions, allocations) in limits.items():
        count = counts[name]
        missed = count.instructions > instructions or count.allocations > allocations
        print(
            f"{name:32}{number(count.instructions):>14}{number(instructions):>8}"
            f"{fraction(count.allocations):>14}{fraction(allocations):>8}{'  TOO MUCH' if missed else ''}"
        )
        if missed:
            misses.append(name)
    if misses:
        sys.exit(
            f"costs more than its limit allows: {', '.join(misses)}\n"
            "if it is worth that: resilience/benches/run gate --update, and say why in the commit"
        )


def update(binary, limits_file):
    rows = [row for row in rows_of(binary) if row.over != "-"]
    counts = measure_all(rows)
    path = Path(limits_file)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    lines = []
    for name, count in counts.items():
        instructions = math.ceil(max(count.instructions, 0) * HEADROOM)
        allocations = math.ceil(max(count.allocations, 0) * HEADROOM * 100) / 100
        allocations += HEADROOM_ALLOCATIONS
        id, manner = name.split()
        lines.append(f"{id:20}{manner:14}{instructions:>8}{allocations:>8.2f}")
    path.write_text("\n".join(head + lines) + "\n")
    print(path.read_text(), end="")


def main(arguments):
    match arguments:
        case ["table", *binaries] if binaries:
            table(binaries)
        case ["gate", binary, limits]:
            gate(binary, limits)
        case ["update", binary, limits]:
            update(binary, limits)
        case ["profile", binary, id, manner]:
            show_profile(binary, id, manner)
        case _:
            sys.exit(__doc__.strip())


if __name__ == "__main__":
    main(sys.argv[1:])

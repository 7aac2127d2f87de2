"""Writes the dashboards, or says whether they are what this would write.

    python3 grafana/generate            writes grafana/dashboards/*.json
    python3 grafana/generate --check    fails when a file differs

A panel in Grafana's JSON is eighty lines, of which five matter. Here they are five,
and what all panels have in common stands once, in panels.py. Needs only Python.
"""

import json
import pathlib
import sys

import resilience
import services

PLACE = pathlib.Path(__file__).resolve().parent.parent / "dashboards"


def main(arguments):
    check = arguments == ["--check"]
    if arguments and not check:
        sys.exit(__doc__)
    stale = []
    for name, dashboard in {"resilience": resilience.client(), "services": services.services()}.items():
        file = PLACE / f"{name}.json"
        text = json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
        if not check:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(file.name)
    if stale:
        sys.exit(f"not what grafana/generate writes: {', '.join(stale)}. Change the generator, and run it.")


if __name__ == "__main__":
    main(sys.argv[1:])

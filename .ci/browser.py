#!/usr/bin/env python3
"""Opens a report in a real browser, as a person would, and looks whether it is all there.

    browser.py REPORT.html [FOLDER]     screenshots go to the folder
    browser.py --self-test REPORT.html  spoils the report in several ways, and sees that each is noticed

On a desktop and on a phone, light and dark: nothing is said on the console, nothing is fetched,
nothing sticks out sideways, and everything that a plot consists of is really drawn. Drives
Chromium (CHROMIUM names another program) through a pipe, and needs only Python.
"""

import base64
import json
import os
import pathlib
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

# Width, height, dark. 390 pixels is a phone of today.
VIEWS = {
    "desktop": (1280, 900, False),
    "desktop-dark": (1280, 900, True),
    "phone": (390, 844, False),
    "phone-dark": (390, 844, True),
}
PATIENCE_S = 30

# What a person would see, as figures.
LOOK = """
(() => {
  const seen = element => element.getClientRects().length > 0;
  const drawings = [...document.querySelectorAll('svg')].filter(seen).map(svg => {
    const frame = svg.getBoundingClientRect();
    const shapes = [...svg.querySelectorAll('path.line, path.area, rect.area')];
    const empty = shapes.filter(shape => {
      const box = shape.getBoundingClientRect();
      const ink = getComputedStyle(shape);
      const painted = [ink.fill, ink.stroke].some(colour => colour !== 'none' && colour !== 'rgba(0, 0, 0, 0)');
      return !(box.width > 0 || box.height > 0) || !painted;
    });
    const texts = [...svg.querySelectorAll('text')];
    const outside = texts.filter(text => {
      const box = text.getBoundingClientRect();
      return box.left < frame.left - 2 || box.right > frame.right + 2 || box.top < frame.top - 2 || box.bottom > frame.bottom + 2;
    });
    const smallest = Math.min(...texts.map(text => {
      return parseFloat(getComputedStyle(text).fontSize) * frame.width / svg.viewBox.baseVal.width;
    }));
    return {
      panels: texts.filter(text => text.classList.contains('title')).map(text => text.textContent),
      shapes: shapes.length,
      empty: empty.map(shape => shape.outerHTML.slice(0, 120)),
      outside: outside.map(text => text.textContent),
      smallest,
      width: frame.width,
      height: frame.height,
    };
  });
  const bright = colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765;
  const body = getComputedStyle(document.body);
  return {
    title: document.title,
    headline: document.querySelector('h1')?.textContent ?? '',
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    height: document.documentElement.scrollHeight,
    page: bright(body.backgroundColor),
    ink: bright(body.color),
    drawings,
  };
})()
"""


class Browser:
    """Chromium, asked through a pipe (--remote-debugging-pipe): messages are JSON and end in a zero."""

    def __init__(self):
        program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        if not program:
            sys.exit("there is no Chromium: CHROMIUM can name one")
        self.home = tempfile.mkdtemp(prefix="browser-")
        to_browser, self.out = os.pipe()
        self.input, from_browser = os.pipe()

        def wire():
            # It reads from 3 and writes to 4. Copies first, as one may lie where the other goes.
            reading, writing = os.dup(to_browser), os.dup(from_browser)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
                f"--user-data-dir={self.home}",
                "--remote-debugging-pipe",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=wire,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.number, self.buffer, self.events = 0, b"", []

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.out)
        os.close(self.input)
        shutil.rmtree(self.home, ignore_errors=True)

    def ask(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        answer = self.wait(lambda message: message.get("id") == self.number, method)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def event(self, method, session):
        """Waits for one, which may have happened before."""

        def wanted(message):
            return message.get("method") == method and message.get("sessionId") == session

        return next(filter(wanted, self.events), None) or self.wait(wanted, method)

    def wait(self, wanted, what):
        until = time.monotonic() + PATIENCE_S
        while True:
            while b"\0" in self.buffer:
                text, self.buffer = self.buffer.split(b"\0", 1)
                message = json.loads(text)
                if "method" in message:
                    self.events.append(message)
                if wanted(message):
                    return message
            ready, _, _ = select.select([self.input], [], [], max(0, until - time.monotonic()))
            part = os.read(self.input, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError(f"the browser did not answer: {what}")
            self.buffer += part


def view(browser, url, width, height, dark, screenshot=None):
    """Opens the page in one way; what is to be seen, and what happened."""
    target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
    session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(method, **parameters):
        return browser.ask(method, session, **parameters)

    browser.events.clear()
    for domain in ("Page", "Runtime", "Log", "Network"):
        ask(f"{domain}.enable")
    ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if width < 500 else 1, mobile=width < 500)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    ask("Emulation.setEmulatedMedia", features=[scheme])
    ask("Page.navigate", url=url)
    browser.event("Page.loadEventFired", session)
    seen = ask("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
    if screenshot:
        clip = {"x": 0, "y": 0, "width": width, "height": seen["height"], "scale": 1}
        picture = ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        screenshot.write_bytes(base64.b64decode(picture))
    events = [event for event in browser.events if event.get("sessionId") == session]
    browser.ask("Target.closeTarget", targetId=target)
    return seen, events


def said(events):
    """What the console holds, and what was fetched besides the page itself."""
    for event in events:
        parameters = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            yield f"an exception: {parameters['exceptionDetails']['text']}"
        elif event["method"] == "Runtime.consoleAPICalled":
            yield f"the console says: {parameters['type']}"
        elif event["method"] == "Log.entryAdded":
            yield f"the console says: {parameters['entry']['text']}"
        elif event["method"] == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if parameters["type"] != "Document" and not url.startswith("data:"):
                yield f"it fetches {url}"


def wrong(seen, events, width, dark):
    yield from said(events)
    if not seen["title"] or not seen["headline"]:
        yield "it has no title, or no headline"
    if seen["sideways"] > 0:
        yield f"it is {seen['sideways']} pixels wider than the screen"
    if dark != (seen["page"] < 0.3) or dark != (seen["ink"] > 0.7):
        yield f"it is {'not ' if dark else ''}dark"
    if not seen["drawings"]:
        yield "it has no drawing"
    for drawing in seen["drawings"]:
        if drawing["width"] < width * 0.8 or drawing["height"] < 200:
            yield f"a drawing has no room: {drawing['width']:.0f} × {drawing['height']:.0f}"
        if len(drawing["panels"]) < 3 or drawing["shapes"] < 2 * len(drawing["panels"]):
            yield f"a drawing is incomplete: {drawing['shapes']} shapes in {drawing['panels']}"
        if drawing["smallest"] < 9:
            yield f"its smallest text is {drawing['smallest']:.1f} pixels"
        for shape in drawing["empty"]:
            yield f"not drawn: {shape}"
        for text in drawing["outside"]:
            yield f"a text sticks out of its drawing: {text}"


def check(browser, file, folder=None):
    """What is wrong with a page, in any view."""
    problems = []
    for name, (width, height, dark) in VIEWS.items():
        screenshot = folder / f"{name}.png" if folder else None
        seen, events = view(browser, file.resolve().as_uri(), width, height, dark, screenshot)
        found = list(wrong(seen, events, width, dark))
        problems += [f"{name}: {problem}" for problem in found]
        drawn = sum(drawing["shapes"] for drawing in seen["drawings"])
        panels = sum(len(drawing["panels"]) for drawing in seen["drawings"])
        if not found:
            print(f"{name}: {len(seen['drawings'])} drawing, {panels} panels, {drawn} shapes, {seen['height']} pixels high")
    return problems


# How a report can be spoiled.
SPOILED = {
    "a script that fails": lambda html: html.replace("</body>", "<script>nothing.there()</script></body>"),
    "a word on the console": lambda html: html.replace("</body>", "<script>console.warn('!')</script></body>"),
    "a picture from elsewhere": lambda html: html.replace("</body>", "<img src='http://127.0.0.1:9/x.png'></body>"),
    "lines without points": lambda html: re.sub(r'(<path class="line[^"]*" d=)"[^"]*"', r'\1""', html),
    "areas without a colour": lambda html: html.replace("</style>", ".area{fill:none!important}</style>", 1),
    "no drawings": lambda html: re.sub(r"<svg.*?</svg>", "", html, flags=re.S),
    "something too wide": lambda html: html.replace("</body>", "<div style='width:2000px'>wide</div></body>"),
    "no dark colours": lambda html: html.replace("prefers-color-scheme:dark", "prefers-color-scheme:none"),
    "a narrow drawing for wide screens": lambda html: html.replace("</style>", "svg{width:100px!important}</style>", 1),
}


def self_test(browser, file):
    html = file.read_text(encoding="utf-8")
    unnoticed = []
    with tempfile.TemporaryDirectory() as place:
        for name, spoil in SPOILED.items():
            spoiled = pathlib.Path(place) / "spoiled.html"
            spoiled.write_text(spoil(html), encoding="utf-8")
            assert spoil(html) != html, name
            problems = check(browser, spoiled)
            print(f"{name}: {problems[0] if problems else 'NOT NOTICED'}")
            if not problems:
                unnoticed.append(name)
    return unnoticed


def main(arguments):
    test = arguments[:1] == ["--self-test"]
    files = [pathlib.Path(argument) for argument in arguments[test:]]
    if not files or len(files) > 2 - test:
        sys.exit(__doc__)
    file, *folder = files
    for place in folder:
        place.mkdir(parents=True, exist_ok=True)
    browser = Browser()
    try:
        problems = self_test(browser, file) if test else check(browser, file, *folder)
    finally:
        browser.close()
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

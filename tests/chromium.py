"""A real browser without a window, driven through pipes by its DevTools protocol."""

import base64
import itertools
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PATIENCE = 30.0  # seconds for one answer


def find_chromium():
    """Path of the browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser with a profile of its own.

    The browser reads commands from its file 3 and writes answers to its file 4; each
    is a JSON text that ends with a zero byte. So no port is opened and no WebSocket
    is needed.
    """

    def __init__(self, program):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self.write_end = os.pipe()
        self.read_end, answers = os.pipe()

        def as_three_and_four():
            first, second = os.dup(commands), os.dup(answers)
            # copies of copies, as 3 or 4 may be one of the four ends
            copies = [os.dup(first), os.dup(second)]
            while min(copies) < 5:
                copies = [os.dup(copy) for copy in copies]
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            preexec_fn=as_three_and_four,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.numbers = itertools.count(1)
        self.answers = {}
        self.events = []
        self.arrived = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.session = None
        target = next(
            one["targetId"]
            for one in self.send("Target.getTargets")["targetInfos"]
            if one["type"] == "page"
        )
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def _listen(self):
        rest = b""
        while True:
            try:
                more = os.read(self.read_end, 2**16)
            except OSError:
                return
            if not more:
                return
            *whole, rest = (rest + more).split(b"\0")
            for message in whole:
                self.arrived.put(json.loads(message))

    def _take(self):
        message = self.arrived.get(timeout=PATIENCE)
        if "id" in message:
            self.answers[message["id"]] = message
        else:
            self.events.append(message)

    def send(self, method, **parameters):
        """Send one command and wait for its answer."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while number not in self.answers:
            self._take()
        answer = self.answers.pop(number)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def wait(self, method):
        """Wait for an event."""
        while not any(event["method"] == method for event in self.events):
            self._take()

    def open(self, path):
        """Load a file, and forget what happened before."""
        self.events.clear()
        self.send("Page.navigate", url=Path(path).as_uri())
        self.wait("Page.loadEventFired")

    def run(self, script):
        """Value of an expression, awaited if it is a promise."""
        answer = self.send(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script):
        """Wait until an expression is true."""
        waited = f"""new Promise((done, fail) => {{
            const begin = Date.now();
            const look = () => {{
                if ({script}) done(true);
                else if (Date.now() - begin > {1000 * PATIENCE / 2}) fail("never");
                else setTimeout(look, 20);
            }};
            look();
        }})"""
        assert self.run(waited)

    def middle(self, selector):
        """Where an element is seen, after scrolling to it."""
        return self.run(
            f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = element.getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2];
        }})()"""
        )

    def mouse(self, kind, x, y, **more):
        """Move, press or release."""
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def click(self, selector):
        """Click in the middle of an element."""
        x, y = self.middle(selector)
        self.mouse("Moved", x, y)
        for kind in ("Pressed", "Released"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def key(self, name, code=0, text=""):
        """Press a key and let it go."""
        typed = {"text": text} if text else {}
        self.send(
            "Input.dispatchKeyEvent",
            type="keyDown", key=name, code=name, windowsVirtualKeyCode=code, **typed,
        )  # fmt: skip
        self.send(
            "Input.dispatchKeyEvent",
            type="keyUp", key=name, code=name, windowsVirtualKeyCode=code,
        )  # fmt: skip

    def look(self, width=1200, height=900, scheme="light", media="screen"):
        """Size of the window, light or dark, screen or paper."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.send(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def picture(self, path, whole=False):
        """Take a screenshot."""
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(taken["data"]))

    def complaints(self):
        """Errors of the console, exceptions, and blocked or failed loads."""
        self.run("0")  # what happened until now has arrived when this has
        found = []
        for event in self.events:
            about = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(about["exceptionDetails"])
            elif event["method"] == "Runtime.consoleAPICalled":
                found += [about] if about["type"] in ("error", "warning") else []
            elif event["method"] == "Log.entryAdded":
                found.append(about["entry"])
            elif event["method"] == "Network.loadingFailed":
                found.append(about)
        return found

    def requests(self):
        """Addresses of everything that was asked for."""
        self.run("0")
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def close(self):
        """End the browser that was started here."""
        try:
            self.session = None
            os.write(self.write_end, b'{"id":0,"method":"Browser.close"}\0')
            self.process.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        finally:
            os.close(self.write_end)
            self.profile.cleanup()

"""Headless Chromium, driven through a pipe by the DevTools protocol: no package beside the standard library."""

import json
import os
import select
import shutil
import subprocess
import time

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which does not work for root, as in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--hide-scrollbars",
)
PATIENCE = 60  # seconds


def browser():
    """The program, or None if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class ScriptError(Exception):
    """A script in the page threw."""


class Page:
    """A browser with one page. messages: what was written to its console, and errors that were not caught."""

    def __init__(self, profile):
        ours, theirs = os.pipe(), os.pipe()  # what the browser reads, and what it writes
        redirected = f'exec "$@" 3</dev/fd/{ours[0]} 4>/dev/fd/{theirs[1]}'
        command = ["sh", "-c", redirected, "sh", browser(), *FLAGS, f"--user-data-dir={profile}"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=(ours[0], theirs[1]), **quiet)
        os.close(ours[0])
        os.close(theirs[1])
        self.to, self.answers = ours[1], theirs[0]
        self.number, self.buffer, self.messages, self.session = 0, b"", [], None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """Calls a method of the protocol and waits for its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise ScriptError(answer["error"]["message"])
                return answer["result"]

    def open(self, path):
        """Loads a file."""
        self.messages.clear()
        self.send("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, script):
        """The value of an expression in the page; that of a promise when it is there."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise ScriptError(result["exceptionDetails"]["exception"].get("description", result))
        return result["result"].get("value")

    def wait(self, condition):
        """Waits until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{condition} did not come true; {self.messages}")
            time.sleep(0.01)

    def resize(self, width, height):
        """Sizes the window, in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def close(self):
        """Ends the browser."""
        os.close(self.to)
        os.close(self.answers)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _receive(self, deadline):
        while b"\0" not in self.buffer:
            if not select.select([self.answers], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            received = os.read(self.answers, 1 << 20)
            if not received:
                raise RuntimeError("Chromium has ended")
            self.buffer += received
        text, _, self.buffer = self.buffer.partition(b"\0")
        answer = json.loads(text)
        self._note(answer.get("method"), answer.get("params"))
        return answer

    def _note(self, method, parameters):
        if method == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(value.get("value")) for value in parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(parameters["exceptionDetails"]["exception"].get("description", "an exception"))
        elif method == "Log.entryAdded":
            self.messages.append(parameters["entry"]["text"])

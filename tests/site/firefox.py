"""Firefox over WebDriver BiDi (https://w3c.github.io/webdriver-bidi), as far as tests of pages need it."""

import itertools
import json
import re
import shutil
import subprocess

from websocket import create_connection

NAMES = ("firefox", "firefox-esr")
ADDRESS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


def find():
    """Path of the installed Firefox, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Firefox:
    """A Firefox without a window; `faults` holds what its pages complained about."""

    def __init__(self, path, profile):
        command = [path, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(profile)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        address = next(found[1] for found in map(ADDRESS.search, self.process.stderr) if found)
        self.socket = create_connection(f"{address}/session", timeout=90, suppress_origin=True)
        self.numbers = itertools.count()
        self.faults = []
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])
        self.context = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method, **parameters):
        """Send a command; its result. Errors that a page logs meanwhile are kept."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.faults.append(message["params"]["text"])
            if message.get("id") == number:
                assert message["type"] == "success", message
                return message["result"]

    def resize(self, width, height):
        """Give the page a size in CSS pixels."""
        viewport = {"width": width, "height": height}
        self.ask("browsingContext.setViewport", context=self.context, viewport=viewport)

    def open(self, address):
        """Show a page, with all that it loads."""
        self.ask("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def evaluate(self, expression):
        """Value of an expression on the page, once its promise is kept."""
        target = {"context": self.context}
        said = self.ask("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert said["type"] == "success", said
        return said["result"].get("value")

    def close(self):
        """End the browser."""
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stderr.close()

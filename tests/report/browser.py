"""A headless Chromium, driven through its DevTools protocol: aiohttp, which serve.py needs anyway, speaks to it."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
import time

import aiohttp

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio"),
    "--remote-debugging-port=0",
)
START_SECONDS, REPLY_SECONDS = 60, 60


def browser():
    """The path of a browser on this machine, None if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Browser:
    """A browser with one page. `console` holds its complaints, `requests` the addresses that it asked for."""

    def __init__(self, place):
        self.console, self.requests, self.replies = [], [], {}
        self.number = 0
        words = [browser(), *FLAGS, f"--user-data-dir={place}", "about:blank"]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        deadline, address = time.monotonic() + START_SECONDS, None
        while not address and time.monotonic() < deadline:
            line = self.process.stderr.readline()
            address = re.search(r"ws://([\d.:]+)/", line)
            assert line or self.process.poll() is None, "the browser ended"
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._connect(address.group(1)))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Performance.enable", timeDomain="threadTicks")

    async def _connect(self, host):
        self.session = aiohttp.ClientSession()
        async with self.session.get(f"http://{host}/json/list") as answer:
            pages = await answer.json()
        page = next(page for page in pages if page["type"] == "page")
        self.socket = await self.session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)

    def close(self):
        self.loop.run_until_complete(self.session.close())
        self.process.terminate()
        self.process.wait(10)
        self.process.stderr.close()
        self.loop.close()

    def call(self, method, **parameters):
        """What the browser answers to a command; events that come meanwhile are noted."""
        self.number += 1

        async def exchange(number):
            await self.socket.send_json({"id": number, "method": method, "params": parameters})
            while True:
                message = json.loads((await self.socket.receive(REPLY_SECONDS)).data)
                if message.get("id") == number:
                    return message
                self._note(message)

        answer = self.loop.run_until_complete(exchange(self.number))
        assert "error" not in answer, answer
        return answer["result"]

    def _note(self, event):
        about = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event["method"] == "Log.entryAdded":
            self.console.append(about["entry"]["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.console.append(about["exceptionDetails"]["exception"].get("description", "exception"))
        elif event["method"] == "Runtime.consoleAPICalled":
            self.console.append(json.dumps(about["args"]))

    def run(self, script):
        """The value of an expression on the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition, seconds=30):
        """Wait until an expression is true on the page; its value. An element counts as false: its value is empty."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(condition)):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.02)
        return value

    def open(self, file, fragment="", *, width=1200, height=900, dark=False):
        """Open a file in a window of this size, and wait until its script is ready."""
        self.console.clear(), self.requests.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"{file.as_uri()}#{fragment}")
        self.wait_for(
            f"location.href.startsWith({json.dumps(file.as_uri())}) && !!document.documentElement?.dataset.ready"
        )

    def busy(self):
        """Seconds of CPU that the page's main thread has used: the time that it takes on a machine that is not busy."""
        return next(m["value"] for m in self.call("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration")

    def press(self, key):
        """Press and release a key: a character, or a name such as Enter."""
        about = {"key": key, "code": key}
        if len(key) == 1:
            about["text"] = key
        elif key == "Enter":
            about |= {"text": "\r", "windowsVirtualKeyCode": 13}
        elif key == "Tab":
            about |= {"windowsVirtualKeyCode": 9}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def screenshot(self, path, full=False):
        """A picture of the window, or of the full page."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        path.write_bytes(base64.b64decode(picture))

"""A browser window that reaches nothing outside and notes what goes wrong, for tests of pages."""

from urllib.parse import urlsplit


class Visit:
    """A browser window that cannot reach outside hosts, and notes whatever goes wrong in it."""

    def __init__(self, browser, width, scheme, **options):
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, **options
        )
        self.context.set_default_timeout(90_000)  # a busy machine must not fail a test
        self.faults = []
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on(
            "console",
            lambda said: said.type == "error" and self.faults.append(f"console: {said.text}"),
        )
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on(
            "response",
            lambda got: got.status >= 400 and self.faults.append(f"{got.status}: {got.url}"),
        )

    def _failed(self, request):
        if request.failure != "net::ERR_ABORTED":  # given up because the page was left: no fault of it
            self.faults.append(f"failed: {request.failure}: {request.url}")

    def _route(self, route):
        parts = urlsplit(route.request.url)
        if parts.scheme in ("http", "https") and parts.hostname != "127.0.0.1":
            self.faults.append(f"outside: {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def open(self, address):
        self.page.goto(address, wait_until="load")
        self.page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
        return self.page

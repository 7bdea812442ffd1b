"""The server behind `cirrnb explore` and `cirrnb learn`: Voila that answers only requests with the token.

A server on 127.0.0.1 is within reach of every page that the browser shows (a name may be made to point to 127.0.0.1)
and of every account of the computer. So each request, those of the WebSocket included, has to name this machine as
its host, come from a page of this server, and carry the token or the cookie that is given for it.

Started as a process of its own: python -P -c "from cirrnb.run.guarded_server import main; main()" NOTEBOOK OPTIONS...
"""

from __future__ import annotations

import hmac
import os
import shutil
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado.web import ErrorHandler, HTTPError, RequestHandler
from traitlets import default
from voila.app import Voila

from cirrnb.data.locks import PREFIX
from cirrnb.view.documentation import documentation_html, exists

TOKEN = "CIRRNB_SERVER_TOKEN"
"""Environment variable with the token; a command line could be read by other accounts."""

PRIVATE = "CIRRNB_SERVER_FOLDER"
"""Environment variable with a folder that only this server uses."""

LONGEST_FOLDER = 36
"""Characters of a folder in which the sockets of a kernel (about 60 more) have room."""

HOSTS = ("127.0.0.1", "localhost")

_POLICY = "; ".join(
    [
        "default-src 'self'",
        # Voila and the widgets bring scripts within the page and build code from text and from data.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:",
        "style-src 'self' 'unsafe-inline' data:",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' ws://127.0.0.1:* ws://localhost:* data: blob:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def host_allowed(host: str) -> bool:
    """Whether the Host header names this machine by its address or as `localhost`, with any port."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname in HOSTS and parts.username is None and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def origin_allowed(origin: str | None, host: str) -> bool:
    """Whether the Origin header, if there is one, is that of the server's own page."""
    return origin is None or origin == f"http://{host}"


class Guard(RequestHandler):
    """Guards a handler of the server: refuses requests without the token, sets headers, sends errors as plain text."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> Any:
        host = self.request.host
        origin = self.request.headers.get("Origin", self.request.headers.get("Sec-Websocket-Origin"))
        if not host_allowed(host) or not origin_allowed(origin, host):
            return self._refuse()
        token: str = self.settings["cirrnb_token"]
        # Cookies are shared by all ports of a host, so that two explorers need two names.
        cookie = f"cirrnb-{self.settings['cirrnb_port']}"
        given = self.get_query_argument("token", None)
        if given is not None and hmac.compare_digest(given.encode(), token.encode()):
            self.set_signed_cookie(cookie, "1", expires_days=None, httponly=True, samesite="Lax")
            if self.request.method == "GET" and self.request.path == "/":
                return self.redirect("/")  # the token stays in no address that is copied or bookmarked
        elif self.get_signed_cookie(cookie, max_age_days=31) != b"1":
            return self._refuse()
        return super().prepare()

    def check_xsrf_cookie(self) -> None:
        """A page of this server needs no second proof: `prepare` has seen its origin and its cookie.

        Voila gives out none, so that the message by which a closed page ends its kernel would be refused, and each
        reload would leave a process of a gigabyte behind.
        """
        if self.request.headers.get("Origin") != f"http://{self.request.host}":
            super().check_xsrf_cookie()

    def _refuse(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("Open the address that the terminal shows, with its token.\n")

    def log_exception(self, *error: Any) -> None:
        """Nothing: Tornado's words would repeat the address with its token on the terminal."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        # Voila's own error page asks a content network for a font.
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}. The terminal may say more.\n")


class Documentation(RequestHandler):
    """A page of the documentation, to which the course and the explorer link."""

    def get(self, name: str) -> None:
        """Answer with the page, or 404."""
        if not exists(name):
            raise HTTPError(404)
        self.finish(documentation_html(name))


class Server(Voila):
    """Voila with a guard before every handler and no configuration but its command line."""

    token_value: str = ""
    private: Path = Path()
    short: Path | None = None

    @default("config_file_paths")
    def _no_config_files(self) -> list[str]:
        # Voila runs a voila.py of the present folder and of several others.
        return []

    @default("connection_dir_root")
    def _private_connections(self) -> str:
        # Names of sockets have at most 100 characters on some systems; a long TMPDIR leaves no room for them.
        if sys.platform == "win32" or len(str(self.private)) <= LONGEST_FOLDER:
            return str(self.private)
        self.short = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        return str(self.short)

    def stop(self) -> None:
        super().stop()
        if self.short:
            shutil.rmtree(self.short, ignore_errors=True)

    def init_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = super().init_settings()
        # Tornado's log of refused requests would repeat the token on the terminal.
        quiet = {
            # No pings: the page is on this machine, and a closed one ends its connection itself. With pings Tornado
            # allows no longer a wait than their interval, and then Jupyter drops every connection after one interval.
            "ws_ping_interval": 0,
            "log_function": lambda handler: None,
            "default_handler_class": _guarded(ErrorHandler),
            "default_handler_args": {"status_code": 404},
        }
        return {**settings, **quiet, "cirrnb_token": self.token_value, "cirrnb_port": self.port}

    def init_handlers(self) -> list[Any]:
        # Nobody logs in or out here: the token is all.
        needed = [entry for entry in super().init_handlers() if not entry[1].__name__.startswith(("Login", "Logout"))]
        documentation = [(r"/docs/(\w+)\.md", _guarded(Documentation))]
        return [*documentation, *((pattern, _guarded(handler), *rest) for pattern, handler, *rest in needed)]

    def launch_browser(self) -> None:
        """Open the page by way of a private file, since a browser's command line could be read by other accounts."""
        page = self.private / "open.html"
        page.touch(mode=0o600)
        page.write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0;url=http://{HOSTS[0]}:{self.port}/'
            f'?token={self.token_value}"><title>cirrnb</title>',
            encoding="utf-8",
        )
        threading.Thread(target=webbrowser.open, args=(page.as_uri(), 2), daemon=True).start()


def _guarded(handler: type[RequestHandler]) -> type[RequestHandler]:
    return type(handler.__name__, (Guard, handler), {})


def main() -> None:
    """Serve until interrupted; the command line is Voila's."""
    # Neither is handed on to the kernels.
    Server.token_value, Server.private = os.environ.pop(TOKEN), Path(os.environ.pop(PRIVATE))
    Server.launch_instance()

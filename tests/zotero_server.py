"""A local stand-in of Zotero's API, for what tagging a library needs of it.

Pages of items with Link headers, the versions that guard every write, and the answer that lists
refused items: https://www.zotero.org/support/dev/web_api/v3/write_requests
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class ZoteroServer(ThreadingHTTPServer):
    """A library of one user, at `url`.

    Attributes:
        items: Key to item data; `version` in each.
        key: The API key that it wants.
        page: Items in a page, however many are asked for.
    """

    daemon_threads = True

    def __init__(self, items: list[dict], key: str = "secret", page: int = 2) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.items = {item["key"]: item for item in items}
        self.key = key
        self.page = page
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    def __enter__(self) -> ZoteroServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ZoteroServer

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/itemFields":
            self._answer([{"field": name} for name in ("title", "abstractNote", "DOI")])
        elif not self._allowed():
            self._answer("Forbidden", 403)
        elif re.fullmatch(r"/users/7(/collections/ABCD2345)?/items/top", path):
            self._items(path, int(query.get("start", ["0"])[0]), "/collections/" in path)
        else:
            self._answer("Not found", 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            self._answer("Forbidden", 403)
            return
        answer: dict = {"successful": {}, "unchanged": {}, "failed": {}}
        for place, change in enumerate(body):
            item = self.server.items[change["key"]]
            if change["version"] != item["version"]:
                message = "Item has been modified since specified version"
                answer["failed"][str(place)] = {"code": 412, "message": message}
                continue
            item |= {name: value for name, value in change.items() if name != "key"}
            item["version"] += 1
            answer["successful"][str(place)] = {"key": change["key"]}
        self._answer(answer)

    def _items(self, path: str, start: int, in_collection: bool) -> None:
        items = [
            {
                "key": data["key"],
                "version": data["version"],
                "library": {},
                "links": {},
                "meta": {},
                "data": dict(data),
            }
            for data in self.server.items.values()
            if not in_collection or "ABCD2345" in data.get("collections", [])
        ]
        end = start + self.server.page
        links = f'<{self.server.url}{path}?start={end}>; rel="next"' if end < len(items) else None
        self._answer(items[start:end], links=links)

    def _allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.key}"

    def _answer(self, value: object, status: int = 200, links: str | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified-Version", "1")
        if links:
            self.send_header("Link", links)
        self.end_headers()
        self.wfile.write(body)

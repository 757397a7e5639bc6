"""A local stand-in of the Hugging Face Hub: the part of its protocol that models need.

It keeps repositories of branches and commits in memory and answers what `huggingface_hub` asks to
download and upload: model information, file trees, files with their headers, the modes and targets
of uploads (Git LFS for graphs), commits. What was asked is kept in `Hub.requests`.

    with Hub() as hub: ...  # HF_ENDPOINT=hub.address
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_made_up"
"""What may read private models, and write."""


@dataclass
class Repository:
    """Branches point to commits; a commit is the files of that moment."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch, files, message):
        text = repr((sorted(files), message, len(self.commits)))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        self.messages.append(message)
        return commit

    def files(self, revision):
        """The files of a branch or commit; None if there is none such."""
        return self.commits.get(self.branches.get(revision, revision))


class Refused(Exception):
    def __init__(self, status, code="", message=""):
        super().__init__(status, code, message)


class Hub:
    """The server; `repositories` may be looked at and changed."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def _answer(self):
        self.path_only = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {self.path_only}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, self.path_only)
            if match and self.command in method.split():
                try:
                    return answer(self, body, *match.groups())
                except Refused as refused:
                    status, code, message = refused.args
                    headers = {"X-Error-Code": code, "X-Error-Message": message}
                    return self._send(status, {"error": message}, headers)
        return self._send(404, {"error": "no such page"})

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _send(self, status, content=None, headers=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # Rights

    def _authorised(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _may_write(self):
        if not self._authorised():
            raise Refused(401, "", "Invalid username or password.")

    def _repository(self, name):
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._authorised()):
            raise Refused(401 if not self._authorised() else 404, "RepoNotFound", "Not found")
        return repository

    def _files(self, name, revision):
        repository = self._repository(name)
        files = repository.files(revision)
        if files is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, repository.branches.get(revision, revision), files

    # Downloads

    def info(self, _body, name, revision):
        _, commit, files = self._files(name, revision or "main")
        siblings = [{"rfilename": file} for file in files]
        content = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
        self._send(200, content | {"private": False, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, _body, name, revision):
        _, _, files = self._files(name, revision)
        self._send(
            200,
            [
                {"type": "file", "path": path, "size": len(data), "oid": _git_oid(data)}
                for path, data in files.items()
            ],
        )

    def resolve(self, _body, name, revision, path):
        repository, commit, files = self._files(name, revision)
        if repository.gated:
            raise Refused(403, "GatedRepo", "Access to this model is restricted")
        if path not in files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        data = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git_oid(data)}"'}
        if path in repository.lfs:
            digest = hashlib.sha256(data).hexdigest()
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self._send(200, data, headers)

    # Uploads

    def create(self, body):
        self._may_write()
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            address = f"{self.hub.address}/{name}"
            return self._send(409, {"error": "You already created this model repo", "url": address})
        repository = Repository(private=bool(asked.get("private")))
        repository.commit("main", {".gitattributes": b"*.onnx filter=lfs\n"}, "initial commit")
        self.hub.repositories[name] = repository
        return self._send(200, {"url": f"{self.hub.address}/{name}"})

    def branch(self, _body, name, branch):
        self._may_write()
        repository = self._repository(name)
        if branch in repository.branches:
            raise Refused(409, "", "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._send(200, {})

    def validate(self, body):
        content = json.loads(body)["content"]
        assert content.startswith("---\n")
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, body, name, revision):
        self._may_write()
        self._files(name, revision)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".onnx") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._send(200, {"files": files})

    def batch(self, body, name):
        self._may_write()
        self._repository(name)
        objects = []
        for item in json.loads(body)["objects"]:
            upload = {"href": f"{self.hub.address}/storage/{item['oid']}", "header": {}}
            known = item["oid"] in self.hub.objects
            objects.append(item if known else item | {"actions": {"upload": upload}})
        self._send(200, {"transfer": "basic", "objects": objects})

    def store(self, body, digest):
        assert hashlib.sha256(body).hexdigest() == digest
        self.hub.objects[digest] = body
        self._send(200, {})

    def commit(self, body, name, branch):
        self._may_write()
        repository, _, before = self._files(name, branch)
        files, message = dict(before), ""
        for line in body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                repository.lfs.discard(value["path"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
                repository.lfs.add(value["path"])
            elif key == "deletedFile":
                del files[value["path"]]
            else:
                raise Refused(400, "", f"unknown key {key}")
        commit = repository.commit(branch, files, message)
        address = f"{self.hub.address}/{name}/commit/{commit}"
        self._send(200, {"success": True, "commitUrl": address, "commitOid": commit})


def _git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_NAME}/branch/(.+)", _Handler.branch),
    ("POST", rf"/api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    ("POST", rf"/api/models/{_NAME}/commit/(.+)", _Handler.commit),
    ("GET", rf"/api/models/{_NAME}/tree/([^/]+)/?", _Handler.tree),
    ("GET", rf"/api/models/{_NAME}(?:/revision/(.+))?", _Handler.info),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/storage/(\w+)", _Handler.store),
    ("GET HEAD", rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]

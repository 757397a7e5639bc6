"""Tagging a Zotero library, against a local stand-in of its API."""

from __future__ import annotations

import copy
from unittest.mock import Mock

import httpx
import pytest
from pyzotero.errors import LocalAPIDeniedError, LocalAPIKeyRequiredError
from support import invented_articles
from zotero_server import ZoteroServer

from studytag import Predictor
from studytag.cli.main import main
from studytag.inference.zotero import (
    ItemChange,
    ZoteroError,
    apply_tags,
    connect,
    plan_tags,
)


def library():
    items = []
    for number, article in enumerate(invented_articles(5, seed=2)):
        items.append(
            {
                "key": f"ITEM000{number}",
                "version": 10 + number,
                "itemType": "journalArticle",
                "title": article["title"],
                "abstractNote": article["abstract"] or "",
                "collections": ["ABCD2345"] if number < 2 else [],
                "tags": [{"tag": "read"}, {"tag": "studytag: Outdated", "type": 1}],
            }
        )
    items.append({"key": "ITEM0009", "version": 3, "itemType": "document", "title": "", "tags": []})
    return items


@pytest.fixture
def server():
    with ZoteroServer(library()) as running:
        yield running


@pytest.fixture
def command(server, exported, monkeypatch):
    monkeypatch.setenv("ZOTERO_API_KEY", "secret")
    place = ["--user", "7", "--api-url", server.url]
    return ["zotero", *place, "--bundle", str(exported.bundle)]


def test_nothing_is_written_unless_told(server, command, capsys):
    before = copy.deepcopy(server.items)
    main(command)
    printed = capsys.readouterr().out
    assert server.items == before
    assert "- studytag: Outdated" in printed
    assert "5 items change, 0 stay, 1 cannot be tagged." in printed
    assert "ITEM0009: not tagged: neither title nor abstract" in printed
    assert "give --apply" in printed


def test_tags_arrive_and_other_tags_stay(server, command, exported, capsys):
    before = copy.deepcopy(server.items)
    main([*command, "--apply"])
    assert "5 items written." in capsys.readouterr().out
    with Predictor(exported.bundle) as predictor:
        for key, item in before.items():
            if key == "ITEM0009":
                continue
            record = {"title": item["title"], "abstract": item["abstractNote"]}
            (prediction,) = predictor.predict(record)
            automatic = [{"tag": f"studytag: {n}", "type": 1} for n in prediction.labels]
            assert server.items[key]["tags"] == [{"tag": "read"}, *automatic]
            unchanged = {name: item[name] for name in item if name not in ("tags", "version")}
            assert {name: server.items[key][name] for name in unchanged} == unchanged
    assert server.items["ITEM0009"] == before["ITEM0009"]
    main(command)
    assert "0 items change, 5 stay" in capsys.readouterr().out


def test_a_collection_alone(server, command, capsys):
    main([*command, "--collection", "ABCD2345", "--apply"])
    assert "2 items written." in capsys.readouterr().out
    assert server.items["ITEM0004"]["tags"][1] == {"tag": "studytag: Outdated", "type": 1}


def test_an_item_edited_meanwhile_is_never_overwritten(server, exported):
    client = connect("7", api_key="secret", api_url=server.url)
    with Predictor(exported.bundle) as predictor:
        plan = plan_tags(client, predictor)
    server.items["ITEM0001"] |= {"version": 99, "tags": [{"tag": "edited by a person"}]}
    ((change, reason),) = apply_tags(client, plan.changes)
    assert change.key == "ITEM0001"
    assert "modified since" in reason
    assert server.items["ITEM0001"]["tags"] == [{"tag": "edited by a person"}]


class Busy:
    """Zotero as pyzotero shows it: a key that is good for one write, and a wait now and then."""

    local = True

    def __init__(self, waits):
        self.local_api_key, self.asked, self.written, self.waits = None, 0, 0, waits
        self.request = None

    def authorize_local(self, name):
        self.asked += 1
        self.local_api_key = "for one write"

    def update_items(self, payload):
        if self.local_api_key is None:
            raise LocalAPIKeyRequiredError
        if self.waits:
            self.waits -= 1
            self.request = httpx.Response(429, text="wait")
            return
        self.written += len(payload)
        self.local_api_key = None
        self.request = httpx.Response(200, json={"failed": {}})


def changes(count):
    return [ItemChange(f"ITEM{n:04}", 1, "A", ("studytag: RCT",), (), ()) for n in range(count)]


def test_a_permission_for_one_write_is_asked_for_again():
    client = Busy(waits=2)
    assert apply_tags(client, changes(120)) == []
    assert (client.asked, client.written) == (3, 120)


def test_a_library_that_stops_taking_tags_says_how_many_it_has():
    client = Busy(waits=0)
    client.authorize_local = Mock(side_effect=[None, LocalAPIDeniedError("denied")])
    client.local_api_key = "for one write"
    with pytest.raises(ZoteroError, match="50 items are written: run it again"):
        apply_tags(client, changes(120))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "7"], "Zotero: "),  # no key
        ([], "name the library"),
        (["--user", "7", "--api-key-file", "nowhere.txt"], "nowhere.txt: cannot be read"),
    ],
)
def test_mistakes_end_in_one_line(server, exported, capsys, monkeypatch, arguments, message):
    monkeypatch.delenv("ZOTERO_API_KEY", raising=False)
    place = ["--api-url", server.url, "--bundle", str(exported.bundle)]
    with pytest.raises(SystemExit) as stop:
        main(["zotero", *arguments, *place])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_an_unreachable_zotero_is_one_line(exported, capsys):
    place = ["--local", "--api-url", "http://127.0.0.1:9", "--bundle", str(exported.bundle)]
    with pytest.raises(SystemExit) as stop:
        main(["zotero", *place])
    assert stop.value.code == 2
    assert "check that the program runs" in capsys.readouterr().err

"""Tags into a Zotero library, through pyzotero: the desktop program's local API or the web API.

Nothing is written before the plan has been looked at (`plan_tags`, then `apply_tags`). Only the
tags of an item are sent, with the version that was read: an item that was changed meanwhile is
refused by Zotero, never overwritten. Our tags are Zotero's automatic ones (type 1), which its tag
selector can hide and remove; a person's tags stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from studytag.errors import InputError, StudytagError, import_extra
from studytag.files import PREFIX, check_prefix, is_tag
from studytag.inference.predictor import Predictor
from studytag.manifest import OperatingPoint

_AUTOMATIC = 1
_TRIES = 5
_BATCH = 50
"""Items that Zotero takes in one request."""

_WITHOUT_ARTICLES = "-attachment || note || annotation"


class ZoteroError(StudytagError):
    """Zotero cannot be reached, or refuses a request."""


@dataclass(frozen=True)
class ItemChange:
    """The tags of one item, before and after.

    Attributes:
        key: Of the item in its library.
        version: That was read.
        title: For a person to recognise it.
        added: Our tags that are new.
        removed: Our tags of an earlier run that no longer hold.
        tags: All tags of the item afterwards, as Zotero's API takes them.
    """

    key: str
    version: int
    title: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    tags: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class TagPlan:
    """What tagging a library would change.

    Attributes:
        changes: Items whose tags would change.
        unchanged: Items whose tags are right already.
        untagged: Title (or key) and reason of items that cannot be tagged.
    """

    changes: tuple[ItemChange, ...]
    unchanged: int
    untagged: tuple[tuple[str, str], ...]


def connect(
    library: str,
    kind: Literal["user", "group"] = "user",
    *,
    api_key: str | None = None,
    local: bool = False,
    api_url: str | None = None,
) -> Any:
    """A pyzotero client of a library; nothing is requested yet.

    Args:
        library: Number of the user or the group; for the local API, `0` is the own library.
        kind: Whose library it is.
        api_key: From zotero.org/settings/keys; the local API needs none.
        local: Speak to the Zotero program on this computer instead of zotero.org.
        api_url: Of another server that speaks Zotero's API.

    Raises:
        MissingDependencyError: pyzotero is not installed.
    """
    client = import_extra("pyzotero.zotero", "zotero").Zotero(
        library, kind, None if local else api_key, local=local
    )
    if api_url is not None:
        client.endpoint = api_url.rstrip("/")
    return client


def plan_tags(
    client: Any,
    predictor: Predictor,
    *,
    collection: str | None = None,
    prefix: str = PREFIX,
    operating_point: OperatingPoint | None = None,
) -> TagPlan:
    """Read the library's articles, tag them, and say what would change. Writes nothing.

    Args:
        client: As `connect` makes it.
        predictor: Tags the articles.
        collection: Key of a collection; None takes the whole library.
        prefix: Begins our tags. Under `studytag:` all are replaced, under another prefix those of
            labels that the predictor has.
        operating_point: Decides instead of the predictor's own.

    Raises:
        ZoteroError: the library cannot be read.
        InputError: the prefix is blank, which would claim every tag.
    """
    check_prefix(prefix)
    items = list(_items(client, collection))
    records = [
        {"title": item["data"].get("title"), "abstract": item["data"].get("abstractNote")}
        for item in items
    ]
    changes, untagged, unchanged = [], [], 0
    predictions = predictor.predict_iter(records, operating_point=operating_point, errors="return")
    for item, prediction in zip(items, predictions, strict=True):
        if isinstance(prediction, InputError):
            name = item["data"].get("title") or item["key"]
            untagged.append((name, str(prediction)))
            continue
        former = [
            tag["tag"]
            for tag in item["data"].get("tags", [])
            if is_tag(tag["tag"], prefix, predictor.labels)
        ]
        change = _change(item, [prefix + label for label in prediction.labels], former)
        if change is None:
            unchanged += 1
        else:
            changes.append(change)
    return TagPlan(tuple(changes), unchanged, tuple(untagged))


def apply_tags(client: Any, changes: Sequence[ItemChange]) -> list[tuple[ItemChange, str]]:
    """Write the planned tags.

    Args:
        client: As `connect` makes it.
        changes: Of a plan.

    Returns:
        The changes that Zotero refused, and why; such as an item edited since the plan was made.

    Raises:
        ZoteroError: the library cannot be written; earlier batches are written.
    """
    refused: list[tuple[ItemChange, str]] = []
    for first in range(0, len(changes), _BATCH):
        batch = changes[first : first + _BATCH]
        payload = [
            {"key": change.key, "version": change.version, "tags": list(change.tags)}
            for change in batch
        ]
        try:
            response = _post(client, payload)
        except ZoteroError as error:
            if not first:
                raise
            written = first - len(refused)
            raise ZoteroError(f"{error}; {written} items are written: run it again") from error
        for place, failure in response.get("failed", {}).items():
            refused.append((batch[int(place)], str(failure.get("message", "refused"))))
    return refused


def _items(client: Any, collection: str | None) -> Iterator[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        options = {"itemType": _WITHOUT_ARTICLES, "limit": 100}
        query = (
            client.top(**options)
            if collection is None
            else client.collection_items_top(collection, **options)
        )
        items: list[dict[str, Any]] = client.everything(query)
        return items

    yield from _speak(read)


def _post(client: Any, payload: list[dict[str, Any]]) -> dict[str, Any]:
    errors = import_extra("pyzotero.errors", "zotero")

    def write() -> dict[str, Any]:
        renewed = False
        for _ in range(_TRIES):
            if client.local and client.local_api_key is None:
                client.authorize_local("studytag")
            try:
                client.update_items(payload)
            except errors.LocalAPIKeyRequiredError:
                if renewed or not client.local:
                    raise
                # "Allow" is for one write: Zotero asks the user again.
                client.local_api_key, renewed = None, True
                continue
            if client.request.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                continue  # pyzotero waits as long as it is told before the next request
            # pyzotero says nothing of items that were refused within an accepted request.
            response: dict[str, Any] = client.request.json()
            return response
        raise ZoteroError("Zotero asks for fewer requests; run it again later")

    responses: list[dict[str, Any]] = list(_speak(lambda: [write()]))
    return responses[0]


def _speak(request: Any) -> Iterable[Any]:
    """What a request returns; pyzotero's and the network's exceptions become one line."""
    errors = import_extra("pyzotero.errors", "zotero")
    network = import_extra("httpx2", "zotero")  # what pyzotero speaks through
    try:
        result: Iterable[Any] = request()
    except (errors.PyZoteroError, network.HTTPError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ZoteroError(
            f"Zotero: {reason}; check that the program runs and lets other applications "
            "communicate with it (Settings, Advanced), or the library's number and the API key"
        ) from error
    return result


def _change(item: dict[str, Any], wanted: list[str], ours: list[str]) -> ItemChange | None:
    """What changes for an item; None if its tags are right."""
    if sorted(ours) == sorted(wanted):
        return None
    others = [tag for tag in item["data"].get("tags", []) if tag["tag"] not in ours]
    return ItemChange(
        key=item["key"],
        version=item["version"],
        title=str(item["data"].get("title") or item["key"]),
        added=tuple(tag for tag in wanted if tag not in ours),
        removed=tuple(tag for tag in ours if tag not in wanted),
        tags=(*others, *({"tag": tag, "type": _AUTOMATIC} for tag in wanted)),
    )

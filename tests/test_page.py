"""The page at `/`, as a reviewer uses it: in a browser, against a real server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browser import CHROMIUM, PATIENCE, serving, visiting
from documentation import REPOSITORY
from playwright.sync_api import expect, sync_playwright
from support import OTHER_FIELD

from studytag import Predictor
from studytag.files import read_rows

FILES = REPOSITORY / "studytag" / "service" / "page"
ARTICLES = REPOSITORY / "studytag" / "demo" / "articles.ris"
LARGEST_LOAD = 100_000
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 844},
        "is_mobile": True,
    },
}

expect.set_options(timeout=1000 * PATIENCE)
in_a_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serve")) as started:
        yield started


@pytest.fixture
def visit(browser, address):
    with visiting(browser, address, **LOOKS["light"]) as started:
        yield started


@pytest.fixture(scope="module")
def predictor():
    with Predictor() as started:
        yield started


@pytest.fixture(scope="module")
def rows():
    return list(read_rows(ARTICLES))


# The files


def test_the_page_has_nothing_of_other_servers_and_nothing_inline():
    for file in FILES.iterdir():
        text = file.read_text(encoding="utf-8")
        links = set(re.findall(r"https?://[\w.]+", text))
        assert links <= {"http://www.w3.org", "https://pubmed.ncbi.nlm.nih.gov"}, file
        if file.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


def test_no_label_is_written_into_the_page(predictor):
    names = re.compile("|".join(rf"\b{label}\b" for label in predictor.labels))
    for file in FILES.iterdir():
        if file.name != "example.json":
            assert not names.search(file.read_text(encoding="utf-8")), file


# What visitors do


def paste(page, article):
    page.get_by_label("Title").fill(article["title"])
    page.get_by_label("Abstract").fill(article["abstract"])


def bar(page, label):
    header = page.get_by_role("rowheader", name=label, exact=True)
    return page.locator(".bars tbody tr").filter(has=header)


def upload(page, file: Path):
    page.get_by_role("tab", name="File").click()
    page.get_by_label("Choose a file").set_input_files(file)
    expect(page.get_by_role("button", name="Download all, with tags")).to_be_visible()


def drop(page, name: str, text: str):
    transfer = page.evaluate_handle(
        """([name, text]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], name));
            return transfer;
        }""",
        [name, text],
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def titles(page):
    return page.locator(".records tbody .title").all_inner_texts()


def save(page, button: str, folder: Path) -> list[dict]:
    """Download a file and read it again."""
    with page.expect_download() as event:
        page.get_by_role("button", name=button).click()
    target = folder / event.value.suggested_filename
    event.value.save_as(target)
    return list(read_rows(target))


def number(text: str) -> float:
    return float(re.search(r"[+−]?[\d.]+", text)[0].replace("−", "-").replace("+", ""))


# The way of a reviewer


class TestAnArticle:
    pytestmark = in_a_browser

    def test_its_labels_are_the_predictors(self, visit, predictor, rows):
        page = visit.open()
        paste(page, rows[2])
        page.get_by_role("button", name="Tag the article").click()
        expect(bar(page, predictor.labels[0])).to_be_visible()
        expected = predictor.predict(rows[2])[0]
        for label in predictor.labels:
            row = bar(page, label)
            present = label in expected.labels
            expect(row.locator(".decision")).to_contain_text("Yes" if present else "No")
            shown = number(row.locator(".value").inner_text())
            assert shown == pytest.approx(100 * expected.probabilities[label], abs=0.51)
            needed = number(row.locator(".needs").inner_text())
            assert needed == pytest.approx(100 * predictor.thresholds[label], abs=0.51)
            fill = row.locator(".fill").bounding_box()["width"]
            track = row.locator(".track").bounding_box()["width"]
            assert fill / track == pytest.approx(expected.probabilities[label], abs=0.05)

    def test_why_shows_what_each_sentence_contributes(self, visit, predictor, rows):
        page = visit.open()
        paste(page, rows[2])
        page.get_by_role("button", name="Tag the article").click()
        page.get_by_role("button", name="Why RCT?").click()
        expect(page.get_by_role("heading", name="Why RCT?")).to_be_focused()
        lines = page.locator(".sentences li")
        numbers = [number(text) for text in lines.locator(".points").all_inner_texts()]
        assert len(numbers) > 5
        assert [abs(each) for each in numbers] == sorted(map(abs, numbers), reverse=True)
        strongest = lines.first.locator(".text").inner_text()
        without = {name: rows[2][name].replace(strongest, "") for name in ("title", "abstract")}
        assert without != {name: rows[2][name] for name in without}
        whole, rest = (each.probabilities["RCT"] for each in predictor.predict([rows[2], without]))
        assert numbers[0] == pytest.approx(100 * (whole - rest), abs=0.06)
        colours = lines.evaluate_all(
            "lines => lines.map(line => [line.className, getComputedStyle(line).backgroundColor])"
        )
        assert len({colour for side, colour in colours if side}) > 1
        page.get_by_label("Order").select_option("As written")
        assert lines.locator(".text").first.inner_text() == rows[2]["title"]

    def test_the_operating_point_says_what_it_promises_and_decides(self, visit, predictor, rows):
        page = visit.open()
        paste(page, rows[2])
        page.get_by_role("button", name="Tag the article").click()
        before = page.locator("#promise").inner_text()
        page.get_by_role("radio", name="sensitive").check()
        expected = predictor.predict(rows[2], operating_point="sensitive")[0]
        for label in predictor.labels:
            words = "Yes" if label in expected.labels else "No"
            expect(bar(page, label).locator(".decision")).to_contain_text(words)
        assert page.locator("#promise").inner_text() != before
        page.get_by_text("What to expect of each label").click()
        expect(page.locator("#promise tbody tr")).to_have_count(len(predictor.labels))

    def test_an_empty_article_is_refused_in_one_sentence(self, visit):
        page = visit.open()
        page.get_by_role("button", name="Tag the article").click()
        expect(page.get_by_role("alert")).to_have_text("Paste a title or an abstract first.")


class TestAFile:
    pytestmark = in_a_browser

    def test_it_is_filtered_sorted_and_downloaded(self, visit, predictor, rows, tmp_path):
        page = visit.open()
        upload(page, ARTICLES)
        predictions = predictor.predict(rows)
        assert titles(page) == [row["title"] for row in rows]
        assert any(url.endswith("/events") for url in visit.loaded)
        for label in predictor.labels:
            count = sum(label in each.labels for each in predictions)
            expect(page.locator(".count", has_text=label)).to_have_text(f"{label} {count}")

        page.locator(".count", has_text="RCT").click()
        tagged = [
            (each.probabilities["RCT"], row["title"])
            for row, each in zip(rows, predictions, strict=True)
            if "RCT" in each.labels
        ]
        expect(page.locator(".records tbody tr")).to_have_count(len(tagged))
        page.get_by_role("columnheader", name="RCT").get_by_role("button").click()
        header = page.get_by_role("columnheader", name="RCT")
        expect(header).to_have_attribute("aria-sort", "descending")
        assert titles(page) == [title for _, title in sorted(tagged, reverse=True)]
        page.get_by_label("Show").select_option("without RCT")
        expect(page.locator(".records tbody tr")).to_have_count(len(rows) - len(tagged))

        page.get_by_label("Format").select_option("RIS")
        again = save(page, "Download all, with tags", tmp_path)
        assert [row["title"] for row in again] == [row["title"] for row in rows]
        for row, each in zip(again, predictions, strict=True):
            assert row.get("keywords", []) == [f"studytag: {label}" for label in each.labels]

    def test_it_is_divided_for_screening(self, visit, predictor, rows, tmp_path):
        page = visit.open()
        upload(page, ARTICLES)
        page.get_by_text("Divide the file for screening").click()
        page.get_by_role("button", name="Download kept").click()
        expect(page.get_by_role("alert")).to_have_text("Choose the labels to keep first.")
        page.get_by_role("checkbox", name="RCT").check()
        sensitive = predictor.predict(rows, operating_point="sensitive")
        for name, suffix in (("CSV", "csv"), ("Excel", "xlsx")):
            page.get_by_label("Format").select_option(name)
            kept = save(page, "Download kept", tmp_path)
            aside = save(page, "Download set aside", tmp_path)
            assert kept
            assert aside
            assert sorted(row["title"] for row in kept + aside) == sorted(r["title"] for r in rows)
            expected = [
                row["title"]
                for row, each in zip(rows, sensitive, strict=True)
                if "RCT" in each.labels
            ]
            assert [row["title"] for row in kept] == expected, suffix

    def test_a_file_that_cannot_be_read_says_why(self, visit):
        page = visit.open()
        drop(page, "<i>notes.ris", "no record in here")
        expect(page.locator("#file-error")).to_contain_text("<i>notes.ris: ")
        expect(page.locator("#job")).to_be_hidden()


# What holds everywhere


class TestThePage:
    pytestmark = in_a_browser

    @pytest.mark.parametrize("look", LOOKS)
    def test_nothing_is_in_the_way_of_anyone(self, browser, address, look):
        with visiting(browser, address, **LOOKS[look]) as visit:
            page = visit.open()
            assert not visit.barriers()
            page.get_by_role("button", name="Fill in an example").click()
            page.get_by_role("button", name="Why RCT?").click()
            expect(page.locator(".sentences li").nth(3)).to_be_visible()
            assert not visit.barriers()
            visit.picture(f"{look}-article")
            drop(page, "articles.ris", ARTICLES.read_text(encoding="utf-8"))
            page.locator(".count").nth(2).click()
            expect(page.locator(".count").nth(2)).to_have_attribute("aria-pressed", "true")
            page.get_by_text("Divide the file for screening").click()
            assert not visit.barriers()
            visit.picture(f"{look}-file")
            for tab in ("History", "Model"):
                page.get_by_role("tab", name=tab).click()
                assert not visit.barriers()
                visit.picture(f"{look}-{tab.lower()}")
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= LOOKS[look]["viewport"]["width"]

    def test_its_first_load_is_small(self, visit):
        page = visit.open()
        page.wait_for_load_state("networkidle")
        assert len(visit.loaded) > 5
        assert sum(visit.loaded.values()) < LARGEST_LOAD

    def test_the_keyboard_is_enough(self, visit, rows):
        page = visit.open()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("tab", name="Article")).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="File")).to_be_focused()
        expect(page.get_by_role("tabpanel", name="File")).to_be_visible()
        page.keyboard.press("Home")
        page.get_by_label("Abstract").focus()
        page.keyboard.insert_text(rows[2]["abstract"])
        page.keyboard.press("Control+Enter")
        why = page.get_by_role("button", name="Why RCT?")
        expect(why).to_be_visible()
        why.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Why RCT?")).to_be_focused()

    def test_the_history_stays_in_the_browser_and_can_be_cleared(self, visit, rows):
        page = visit.open()
        paste(page, rows[0])
        page.get_by_role("button", name="Tag the article").click()
        expect(page.locator(".bars")).to_be_visible()
        upload(page, ARTICLES)
        visit.open("#history")
        page.reload()
        entries = page.locator("#entries li")
        expect(entries).to_have_count(2)
        page.get_by_role("button", name="articles.ris", exact=True).click()
        expect(page.get_by_role("heading", name="articles.ris")).to_be_visible()
        page.get_by_role("tab", name="History").click()
        page.get_by_role("button", name=rows[0]["title"], exact=True).click()
        expect(page.get_by_label("Abstract")).to_have_value(rows[0]["abstract"])
        expect(page.locator(".bars")).to_be_visible()  # the answer makes it an entry again
        page.get_by_role("tab", name="History").click()
        page.get_by_role("button", name="Clear the history").click()
        assert page.evaluate("localStorage.getItem('studytag-history')") is None
        expect(page.locator("#entries")).to_contain_text("Nothing yet")

    def test_a_file_that_is_not_finished_is_found_again(self, visit, rows, tmp_path):
        long = tmp_path / "long.jsonl"
        long.write_text("".join(json.dumps({"title": row["title"]}) + "\n" for row in rows) * 400)
        page = visit.open()
        page.get_by_role("tab", name="File").click()
        page.get_by_label("Choose a file").set_input_files(long)
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        visit.open("#history")
        page.reload()
        expect(page.locator("#entries")).to_contain_text("not finished")
        page.get_by_role("button", name="long.jsonl", exact=True).click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#job")).to_be_hidden()
        page.get_by_role("tab", name="History").click()
        expect(page.locator("#entries")).to_contain_text("Nothing yet")

    def test_a_deleted_file_is_gone(self, visit):
        page = visit.open()
        upload(page, ARTICLES)
        page.get_by_role("button", name="Delete it now").click()
        expect(page.locator("#job")).to_be_hidden()
        page.get_by_role("tab", name="History").click()
        expect(page.locator("#entries")).to_contain_text("Nothing yet")


class TestOtherServers:
    pytestmark = in_a_browser

    def test_a_token_is_asked_for_until_it_is_right(self, browser, tmp_path, rows):
        (tmp_path / "token").write_text("a-long-random-token\n", encoding="utf-8")
        with (
            serving(tmp_path, None, "--token-file", str(tmp_path / "token")) as address,
            visiting(browser, address) as visit,
        ):
            page = visit.page
            page.goto(address)
            for token in ("wrong", "a-long-random-token"):
                expect(page.get_by_label("Token", exact=True)).to_have_value("")
                page.get_by_label("Token", exact=True).fill(token)
                page.get_by_role("button", name="Continue").click()
                if token == "wrong":
                    expect(page.get_by_text("refused that token")).to_be_visible()
            expect(page.get_by_role("radio").first).to_be_visible()
            upload(page, ARTICLES)
            assert len(save(page, "Download all, with tags", tmp_path)) == len(rows)

    def test_another_fields_labels_are_its_own(self, browser, tmp_path, exported_field):
        with (
            serving(tmp_path, exported_field.bundle) as address,
            visiting(browser, address) as visit,
        ):
            page = visit.open()
            paste(page, {"title": "Sealants", "abstract": "We gave sealants. Plaque was measured."})
            page.get_by_role("button", name="Tag the article").click()
            expect(page.locator(".bars tbody tr")).to_have_count(len(OTHER_FIELD))
            for label in OTHER_FIELD:
                page.get_by_role("button", name=f"Why {label}?").click()
                expect(page.get_by_role("heading", name=f"Why {label}?")).to_be_focused()
            upload(page, ARTICLES)
            expect(page.locator(".count")).to_have_count(len(OTHER_FIELD))

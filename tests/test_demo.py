"""The first look: `studytag demo`."""

from __future__ import annotations

import re

import pytest

from studytag.cli.main import main
from studytag.files import read_rows


def test_the_demo_tags_its_articles_and_shows_them(exported, tmp_path, capsys):
    main(["demo", "--bundle", str(exported.bundle), "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    articles = list(read_rows(tmp_path / "articles.ris"))
    assert len(articles) == 12
    tagged = list(read_rows(tmp_path / "tagged.ris"))
    assert [row["title"] for row in tagged] == [row["title"] for row in articles]
    page = (tmp_path / "tagged.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=", page)  # it stands alone
    for row in articles:
        assert row["title"][:40] in printed
    for name in ("articles.ris", "tagged.ris", "tagged.html"):
        assert str(tmp_path / name) in printed


def test_a_folder_that_cannot_be_written_is_one_line(exported, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--bundle", str(exported.bundle), "--output", str(tmp_path / "file")])
    assert stop.value.code == 2
    assert "cannot be written" in capsys.readouterr().err

from __future__ import annotations

from edgeproof_benchmarks.markup import Html, join, tag


def test_tag__escapes_text_and_attributes():
    made = tag("p", "<b> & co", title='"quoted"', class_="x")
    assert made == '<p title="&quot;quoted&quot;" class="x">&lt;b&gt; &amp; co</p>'


def test_tag__keeps_markup_and_leaves_out_what_is_none():
    assert tag("div", tag("i"), None, id=None, hidden=True, open=False) == "<div hidden><i></i></div>"


def test_tag__numbers_have_two_decimals_at_most():
    assert tag("rect", x=1.23456, y=3.0, width=7) == '<rect x="1.23" y="3" width="7"/>'


def test_join__escapes_only_plain_text():
    assert join([Html("<br/>"), "<br/>"]) == "<br/>&lt;br/&gt;"

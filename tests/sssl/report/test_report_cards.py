"""A table that a phone shows as cards says in each cell which column it is of."""

import re

from markupsafe import Markup

from sssl.report.cards import as_cards

HEAD = (
    '<thead><tr><th scope="col">Track</th>'
    '<th scope="col" class="n">A &amp; <b>B</b></th></tr></thead>'
)


def titles(html):
    return re.findall(r'<t[dh] role="(?:cell|rowheader)" data-title="([^"]*)"', html)


def table(body, head=HEAD):
    return Markup(f'<table class="wide"><caption>Some</caption>{head}<tbody>{body}</tbody></table>')


def test_each_cell_has_the_title_of_its_column():
    html = as_cards(table('<tr class="off"><th scope="row">x</th><td class="n">1</td></tr>' * 2))
    assert titles(html) == ["Track", "A &amp; B"] * 2
    assert '<table role="table" class="cards wide">' in html
    assert html.count('role="row"') == 3
    assert html.count('role="columnheader"') == 2


def test_a_cell_over_several_columns_takes_their_place():
    head = HEAD.replace("</tr>", '<th scope="col">Last</th></tr>')
    html = as_cards(table('<tr><th scope="row" colspan="2">both</th><td>1</td></tr>', head))
    assert titles(html) == ["Track", "Last"]


def test_a_table_of_two_headers_or_of_none_stays_as_it_is():
    for head in ("", HEAD.replace('scope="col" class', 'scope="colgroup" class')):
        plain = table("<tr><th>x</th><td>1</td></tr>", head)
        assert as_cards(plain) == plain


def test_text_of_the_catalog_stays_text():
    html = as_cards(table("<tr><th scope='row'>&lt;td&gt;</th><td>&lt;tr&gt;</td></tr>"))
    assert html.count("&lt;td&gt;") == 1
    assert titles(html) == ["Track", "A &amp; B"]

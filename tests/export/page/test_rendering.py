import re
from xml.etree import ElementTree

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from matplotlib.figure import Figure

from export.figures import BLUE, NEUTRALS, SERIES, VERMILION, legend_above, new_figure, style_axes
from export.page.rendering import figure_svg, render
from tests.export.page.records import HOSTILE

TEXT = 4.5  # least contrast of text, and of other things that say something (WCAG 2.2, 1.4.3 and 1.4.11)
GRAPHICS = 3.0


def contrast(first, second):
    """Contrast of two colours as WCAG 2 defines it."""

    def luminance(colour):
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def picture(title="a title"):
    figure = new_figure(5, 3, title)
    axes = figure.subplots()
    axes.plot([1, 2, 3], [3, 1, 2], "o-", color=BLUE, label=HOSTILE)
    axes.fill_between([1, 2], [0, 1], color=VERMILION, label="a band")
    axes.scatter([1, 2, 3], [1, 1, 1], color=BLUE)
    legend_above(axes)
    style_axes(axes)
    return figure


def elements(svg, tag):
    return list(ElementTree.fromstring(svg).iter(tag))


@pytest.mark.parametrize("scheme", [0, 1])
def test_each_colour_stands_out_from_the_paper(scheme):
    paper = NEUTRALS["paper"][scheme]
    for name, shades in SERIES.items():
        # The light grey fills bars that have a darker edge.
        assert contrast(shades[scheme], paper) >= (GRAPHICS if name != "light-grey" else 1.3), name
    for name in ("ink", "muted"):
        assert contrast(NEUTRALS[name][scheme], paper) >= TEXT


def test_the_measure_of_contrast_is_that_of_black_and_white():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_the_same_figure_gives_the_same_bytes_without_a_date():
    first, second = (figure_svg(picture(), "a", "title", "alt") for _ in range(2))
    assert first == second
    assert not re.search(r"20\d\d-\d\d", first)
    assert "metadata" not in first


def test_pictures_of_one_page_share_no_id_and_every_reference_has_its_own():
    first, second = (figure_svg(picture(), name, "title", "alt") for name in ("first", "second"))
    ids = {
        svg: [e.attrib["id"] for e in ElementTree.fromstring(svg).iter() if "id" in e.attrib] for svg in (first, second)
    }
    for svg, own in ids.items():
        assert len(own) == len(set(own))
        wanted = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
        assert len(set(wanted)) >= 3  # markers, ticks and the axes that things are cut at
        assert set(wanted) <= set(own)
    assert not set(ids[first]) & set(ids[second])


def test_colours_are_variables_of_the_page_and_no_style_leaks_out():
    svg = figure_svg(picture(), "a", "title", "alt")
    assert {"blue", "vermilion", "ink", "paper", "grid", "muted"} <= set(re.findall(r"var\(--([a-z-]+)\)", svg))
    assert not re.findall(r"#[0-9a-f]{6}", svg)
    assert not elements(svg, "style")
    page = render("base.html")
    for name in re.findall(r"var\(--([a-z-]+)\)", svg):
        assert page.count(f"--{name}:") >= 3  # light, dark, on paper


def test_text_is_text_and_names_are_shown_as_they_are():
    svg = figure_svg(picture("$\\bad{formula$ <b> \x00 x"), "a", "<t>", '"alt" & more')
    texts = ["".join(e.itertext()) for e in elements(svg, "text")]
    assert HOSTILE in texts
    assert any(text.startswith("$\\bad{formula$ <b> \N{REPLACEMENT CHARACTER}") for text in texts)
    assert "<script" not in svg
    assert elements(svg, "title")[0].text == "<t>"
    assert elements(svg, "desc")[0].text == '"alt" & more'


def test_a_picture_has_a_role_words_and_a_size_that_follows_the_page():
    root = ElementTree.fromstring(figure_svg(picture(), "a", "title", "alt"))
    assert root.attrib["role"] == "img"
    for identity in root.attrib["aria-labelledby"].split():
        assert any(e.attrib.get("id") == identity and e.text for e in root.iter())
    assert root.attrib["viewBox"] == "0 0 360 216"
    assert not {"width", "height"} & set(root.attrib)


def test_many_points_share_one_style():
    figure = Figure()
    figure.subplots().scatter(range(2000), range(2000), color=BLUE)
    svg = figure_svg(figure, "a", "title", "alt")
    assert svg.count("<use") >= 2000
    assert svg.count("var(--blue)") < 20
    assert len(svg) < 60 * 2000


def test_templates_escape_what_is_not_markup(tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text('{{ text }}|{{ svg }}|<a title="{{ text }}">')
    monkeypatch.setattr("export.page.rendering.TEMPLATE_FOLDERS", (tmp_path,))
    page = render("page.html", text="<script>'\"", svg=Markup("<svg/>"))
    escaped = "&lt;script&gt;&#39;&#34;"
    assert page == f'{escaped}|<svg/>|<a title="{escaped}">'


def test_a_value_that_a_template_misses_is_an_error():
    with pytest.raises(UndefinedError, match="document"):
        render("report.html", svg=str)

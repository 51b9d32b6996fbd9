"""What all pages are made with: templates that escape every string, and pictures as SVG inside the page."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from export.figures import NEUTRALS, SERIES, prepare_texts

EXPORT = Path(__file__).parents[1]
TEMPLATE_FOLDERS = (EXPORT / "page" / "templates", EXPORT / "comparison" / "templates")
# Colour in a picture -> CSS variable. Matplotlib's own black and white are ink and paper.
VARIABLES = {"#000000": "ink"} | {light: name for name, (light, _) in (SERIES | NEUTRALS).items()}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
FONT_FAMILY = re.compile(r"font-family: [^;]*;? ?")
REFERENCE = re.compile(r"url\(#([^)]+)\)")
LONG_NUMBER = re.compile(r"(\d+\.\d\d)\d+")


def render(template: str, **values: Any) -> str:
    """The text of `template` with `values`; every string is escaped unless it is `Markup`, a missing one is an error.

    Templates that extend `base.html` fill its blocks `title`, `main` and, where they want, `styles`.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    colours = {"light_colours": _colours(0), "dark_colours": _colours(1)}
    return environment.get_template(template).render(**colours, **values)


def figure_svg(figure: Figure, name: str, title: str, alt: str) -> Markup:
    """The figure as an `<svg>` to stand inside a page: text as text, colours as CSS variables of `base.html`.

    The same figure gives the same bytes. Any text of the figure is shown as it is, never read as a formula.

    Args:
        name: letters, digits and hyphens, another for each picture of a page: all ids begin with it.
        title: what it shows, in a few words.
        alt: what it says, for those who do not see it.
    """
    prepare_texts(figure)
    file = io.BytesIO()
    # Salted with the name, hashes are the same for each run; "none" leaves text to the fonts of the browser.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}):
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    root = ElementTree.fromstring(file.getvalue())
    _drop(root, ("metadata", "style"))
    _plain_names(root)
    _own_ids(root, name)
    for element in root.iter():
        _restyle(element)
        _share_style(element)
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-desc",
        "style": f"aspect-ratio: {width:g} / {height:g}; --natural-width: {width / 12:.4g}rem",
    }
    for index, (tag, text) in enumerate((("title", title), ("desc", alt))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(index, element)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _colours(scheme: int) -> list[tuple[str, str]]:
    """CSS variable and colour, for the light (0) or the dark (1) scheme."""
    return [(name, shades[scheme]) for name, shades in (SERIES | NEUTRALS).items()]


def _drop(root: ElementTree.Element, tags: tuple[str, ...]) -> None:
    """Takes out elements of these names: the style sheet would hold for the whole page, and the date for nothing."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in tags:
                parent.remove(child)


def _plain_names(root: ElementTree.Element) -> None:
    """Names without a namespace, as HTML has them inside `<svg>`."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}


def _references(element: ElementTree.Element) -> Iterator[str]:
    for key, value in element.attrib.items():
        if key == "href" and value.startswith("#"):
            yield value[1:]
        yield from REFERENCE.findall(value)


def _own_ids(root: ElementTree.Element, name: str) -> None:
    """Ids that something refers to get `name` in front; the others go."""
    used = {reference for element in root.iter() for reference in _references(element)}
    numbers: dict[str, str] = {}

    def renamed(identity: str) -> str:
        return numbers.setdefault(identity, f"{name}-{len(numbers)}")

    for element in root.iter():
        if "id" in element.attrib:
            identity = element.attrib.pop("id")
            if identity in used:
                element.attrib["id"] = renamed(identity)
        for key, value in element.attrib.items():
            if key == "href" and value.startswith("#"):
                element.attrib[key] = "#" + renamed(value[1:])
            else:
                element.attrib[key] = REFERENCE.sub(lambda match: f"url(#{renamed(match[1])})", value)


def _restyle(element: ElementTree.Element) -> None:
    """Colours by variable, the page's font, coordinates of two decimals, no space that only looks good."""
    element.tail = None
    if element.tag not in ("text", "tspan"):
        element.text = None
    for key in ("d", "x", "y", "points", "transform"):
        if key in element.attrib and element.tag != "image":
            element.attrib[key] = LONG_NUMBER.sub(r"\1", " ".join(element.attrib[key].split()))
    if "style" in element.attrib:
        element.attrib["style"] = FONT_FAMILY.sub("", COLOUR.sub(_variable, element.attrib["style"]))


def _share_style(element: ElementTree.Element) -> None:
    """One style for all markers of a series in place of one for each: a search has thousands of points."""
    styles = {child.attrib.get("style") for child in element}
    if len(element) < 2 or len(styles) > 1 or None in styles or any(child.tag != "use" for child in element):
        return
    (style,) = styles
    assert style is not None
    if "opacity" in style or "style" in element.attrib:  # that of the group is another thing than that of its parts
        return
    element.attrib["style"] = COLOUR.sub(_variable, style)
    for child in element:
        del child.attrib["style"]


def _variable(match: re.Match[str]) -> str:
    colour = match[0]
    return f"var(--{VARIABLES[colour]})" if colour in VARIABLES else colour

"""The documentation site: `cirrnb docs --build`."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
from itertools import takewhile
from pathlib import Path
from typing import Any

import plotly
from docutils import nodes
from sphinx.transforms import SphinxTransform

import cirrnb
from cirrnb.run.documentation import cache_folder

ROOT = Path(__file__).resolve().parents[1]

project = "cirrnb"
author = "The cirrnb authors"
copyright = "the cirrnb authors, Apache-2.0"
release = version = cirrnb.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["*.py", "styles", "README.md"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "ref.python"]  # names of attributes that several classes have

# `cirrnb docs` names the tutorials that are executed; none if Sphinx is called without it.
executed = os.environ.get("CIRRNB_EXECUTED_TUTORIALS", "").split(",")
nb_execution_mode = "cache"
nb_execution_excludepatterns = [
    f"tutorials/{path.name}" for path in (ROOT / "docs" / "tutorials").glob("*.ipynb") if path.stem not in executed
]
nb_execution_cache_path = str(cache_folder())
nb_execution_in_temp = True
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
# Widgets need a kernel, and scripts from the network to show their last state: progress bars are therefore not shown.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
os.environ["PLOTLY_RENDERER"] = "notebook_connected"  # HTML whose script `own_plotly` replaces by a file of the site

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": False}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # as written, and not the value's long text
napoleon_attr_annotations = False  # the signature has the types
python_maximum_signature_line_length = 90
add_module_names = False
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Result"]
default_role = "code"
highlight_language = "text"  # commands and tables; Python is marked as such

html_theme = "furo"
html_title = "cirrnb"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["pictures.js"]
html_search_scorer = str(ROOT / "docs" / "search_scorer.js")
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "source_repository": "",
    "announcement": "Research only. Not a medical device.",
}


NAMED = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*) : (.*)$")
ANOTHER = re.compile(r"(?<=[.;]) (?=\w+(?:, \w+)* : )")
ARRAY = re.compile(r"(?:np|numpy)?\.?ndarray\[tuple\[(?:Any|~?typing\.Any), \.\.\.\], [\w.~]*dtype\[[\w.~]+\]\]")


def plain_sections(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make numpydoc of sections as this project writes them: what is named has no type, what is returned is prose."""
    if what in ("attribute", "data", "property"):
        lines[:0] = [".. text", ""]  # a comment, since napoleon takes a first line up to its colon for a type
    section, converted, rest = "", [], list(lines)
    while rest:
        line = rest.pop(0)
        if rest and set(rest[0].strip()) == {"-"}:
            section = line.strip()
            converted.append("Result" if section == "Returns" else line)
        elif set(line.strip()) == {"-"}:
            converted.append("------" if section == "Returns" else line)
        elif section in ("Parameters", "Attributes") and NAMED.match(line):
            more = list(takewhile(lambda text: text.startswith(" "), rest))
            rest = rest[len(more) :]
            converted += _entries(" ".join([line, *(text.strip() for text in more)]))
        elif section in ("Parameters", "Attributes") and line.strip() and not line.startswith(" "):
            section = ""
            converted += ["", "", line]  # a sentence below the section ends it
        else:
            converted.append(line)
    lines[:] = converted


def _entries(text: str) -> list[str]:
    """An entry for each name of "low, high : of the interval. n : patients."."""
    entries = []
    for part in ANOTHER.split(text):
        names, _, described = part.partition(" : ")
        entries += [line for name in names.split(", ") for line in (name, f"    {described}")]
    return entries


def plain_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Arrays by one word, since the docstring has shape and type; the constructor's own parameters."""
    if what == "class" and signature and signature.startswith("(*args"):
        ours = inspect.signature(obj.__init__)
        signature = str(ours.replace(parameters=list(ours.parameters.values())[1:]))
    short = [text and ARRAY.sub("ndarray", text) for text in (signature, returned)]
    return short[0], short[1]


class DarkPictures(SphinxTransform):
    """A picture that has a dark version (`NAME_dark.png`) is shown by it where the site is dark."""

    default_priority = 200

    def apply(self, **kwargs: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            dark = image["uri"].removesuffix(".png") + "_dark.png"
            if (Path(self.env.doc2path(self.env.docname)).parent / dark).is_file():
                dark_image = image.deepcopy()
                dark_image["uri"] = dark
                image["classes"].append("only-light")
                dark_image["classes"].append("only-dark")
                image.parent.insert(image.parent.index(image) + 1, dark_image)


PLOTLY = re.compile(r'<script[^>]* src="https://cdn\.plot\.ly/[^>]*></script>')
NOT_NEEDED = re.compile(
    r'<script type="module">import "https://cdn[^<]*</script>|<script src="https://cdnjs[^<]*</script>'
)


def own_plotly(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Figures load plotly from the site, so that they are drawn without a network."""
    if "body" in context:
        script = f'<script src="{context["pathto"]("_static/plotly.min.js", 1)}"></script>'
        context["body"] = NOT_NEEDED.sub("", PLOTLY.sub(script, context["body"]))


def copy_plotly(app: Any, exception: Exception | None) -> None:
    if exception is None:
        shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", Path(app.outdir) / "_static")


def load_excerpts(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """The search page, and no other, loads the text of all pages: from a folder it can fetch none."""
    if page == "search":
        app.add_js_file("page_texts.js")
        app.add_js_file("excerpts.js")


def write_page_texts(app: Any, exception: Exception | None) -> None:
    if exception is not None or app.builder.name != "html":
        return
    texts = []
    for page in sorted(app.env.found_docs):
        sections = []
        for section in app.env.get_doctree(page).findall(nodes.section):
            paragraphs = [child.astext() for child in section.children if not isinstance(child, nodes.section)]
            sections.append((section["ids"][0], " ".join(" ".join(paragraphs).split())))
        texts.append((page, sections))
    target = Path(app.outdir) / "_static" / "page_texts.js"
    target.write_text(f"const PAGE_TEXTS = new Map({json.dumps(texts, ensure_ascii=False)});\n", encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", plain_sections, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", plain_signature)
    app.add_transform(DarkPictures)
    app.connect("html-page-context", own_plotly)
    app.connect("html-page-context", load_excerpts)
    app.connect("build-finished", copy_plotly)
    app.connect("build-finished", write_page_texts)

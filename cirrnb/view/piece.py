"""A piece of a page that a notebook shows: HTML made by the package, with everything from outside escaped."""

from __future__ import annotations

from dataclasses import dataclass

PIECE_OPENS = '<section class="piece'
"""How the HTML of a piece begins, by which a page made from a notebook takes it as it is."""

FIGURE_OPENS = '<figure class="slice-browser"'
"""How the HTML of a slice browser begins."""


@dataclass(frozen=True)
class Piece:
    """`body` is HTML; `kind` names its style."""

    body: str
    kind: str = "plain"

    def _repr_html_(self) -> str:
        return f'{PIECE_OPENS} {self.kind}">{self.body}</section>'

"""How things look: tables, JSON, YAML, names, signs, colour and waiting.

Role in the flow: every verb hands its results to a `Console`. Data goes to
standard output; everything else (signs, warnings, errors) to standard error.
Knows no kinds and asks nobody anything.

Source: spec/style.md section 3; Flux's log signs and table layout.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

import click

from gitwright.core.errors import GitwrightError
from gitwright.core.objects import JSON, gvk_of

Format = Literal["table", "wide", "json", "yaml", "name"]
Colour = Literal["auto", "always", "never"]

_GAP = "   "
_SIGNS = {"action": "►", "wait": "◎", "success": "✔", "warning": "⚠", "failure": "✗"}
_PLAIN_SIGNS = {"action": ">", "wait": "o", "success": "+", "warning": "!", "failure": "x"}
_SIGN_COLOURS = {
    "action": "cyan",
    "wait": "cyan",
    "success": "green",
    "warning": "yellow",
    "failure": "red",
}
_CELL_COLOURS = {
    ("READY", "True"): "green",
    ("READY", "False"): "red",
    ("READY", "Unknown"): "yellow",
    ("SUSPENDED", "True"): "yellow",
    ("TYPE", "Warning"): "yellow",
}
_HEX = re.compile(r"\b[a-f0-9]{40,128}\b")


def wants_colour(choice: Colour, environment: Mapping[str, str], *, terminal: bool) -> bool:
    """Decide whether a stream is coloured.

    Args:
        choice: the value of `--color`.
        environment: `NO_COLOR` (any value but the empty one) and `TERM=dumb` turn `auto` off.
        terminal: whether the stream is a terminal.
    """
    if choice != "auto":
        return choice == "always"
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def shorten(text: str) -> str:
    """Cut every hexadecimal digest of 40 to 128 characters to 8, as Flux's tables do."""
    return _HEX.sub(lambda match: match.group()[:8], text)


def clean(text: str) -> str:
    """Make control characters visible, so that text from a cluster cannot drive the terminal."""
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) != "Cc" else _escape(character)
        for character in text
    )


def cell(text: str) -> str:
    """Make a text fit for one table cell: one line, no control characters."""
    return clean(" ".join(text.split()))


def _escape(character: str) -> str:
    return f"\\x{ord(character):02x}"


def width(text: str) -> int:
    """Count the columns a text takes on a terminal; wide East Asian characters take two."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def human_age(seconds: float) -> str:
    """Write an age as kubectl does: `45s`, `5m30s`, `3h`, `2d4h`, `1y20d`.

    Source: apimachinery's duration.HumanDuration.
    """
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole >= -1 else "<invalid>"
    if whole < 120:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, rest = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, rest = divmod(hours, 24)
    if days < 8:
        return f"{days}d{rest}h" if rest else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = divmod(days, 365)
    return f"{years}y{rest}d" if years < 8 and rest else f"{years}y"


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    widths: list[int] | None = None,
    colour: bool = False,
    show_header: bool = True,
) -> list[str]:
    """Lay out a table as lines without trailing blanks.

    Args:
        headers: the column names, in capitals.
        rows: one text per column each; folded to one line here.
        widths: columns of lines printed before; grown in place, so that a stream stays aligned.
        colour: colour the cells that speak of good and bad.
        show_header: print the header line.
    """
    cells = [[cell(text) for text in row] for row in rows]
    measured = widths if widths is not None else []
    if not measured:
        measured.extend(width(header) if show_header else 0 for header in headers)
    for row in cells:
        for column, text in enumerate(row):
            measured[column] = max(measured[column], width(text))
    lines = [_line(headers, list(headers), measured, colour=False)] if show_header else []
    if lines and colour:
        lines = [click.style(lines[0], bold=True)]
    lines.extend(_line(headers, row, measured, colour=colour) for row in cells)
    return lines


def _line(headers: Sequence[str], row: Sequence[str], widths: Sequence[int], *, colour: bool) -> str:
    last = max((column for column, text in enumerate(row) if text), default=0)
    parts = []
    for column, text in enumerate(row[: last + 1]):
        padding = "" if column == last else " " * (widths[column] - width(text))
        shade = _CELL_COLOURS.get((headers[column], text)) if colour else None
        parts.append((click.style(text, fg=shade) if shade else text) + padding)
    return _GAP.join(parts)


def presentable(obj: JSON) -> JSON:
    """Leave out `metadata.managedFields`, as kubectl does when it shows objects."""
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def object_name(obj: JSON) -> str:
    """Name an object as `kubectl -o name` does: `kustomization.kustomize.toolkit.fluxcd.io/app`."""
    gvk = gvk_of(obj)
    kind = f"{gvk.kind.lower()}.{gvk.group}" if gvk.group else gvk.kind.lower()
    return f"{kind}/{obj['metadata']['name']}"


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """Write a value as JSON with sorted keys."""
    return json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False)


@dataclass(slots=True)
class Progress:
    """What is being waited for: shown live on a terminal, named when time runs out.

    Args:
        text: what, and how far it is.
        hint: what to do when it does not happen in time.
    """

    text: str = ""
    hint: str = "give it longer with --timeout"
    _show: Callable[[str], None] | None = None

    def say(self, text: str) -> None:
        """Tell what is being waited for now."""
        self.text = text
        if self._show is not None:
            self._show(text)

    @contextmanager
    def shown_by(self, show: Callable[[str], None]) -> Iterator[None]:
        """Show every text by `show` until the block ends."""
        self._show = show
        try:
            yield
        finally:
            self._show = None


@dataclass(frozen=True, slots=True)
class Console:
    """Where a verb writes.

    Args:
        out: standard output, for data only.
        err: standard error, for everything else.
        colour_out: colour the data.
        colour_err: colour the signs.
        live: a person watches standard error: spinners are welcome.
        quiet: leave out what only says that all goes well.
    """

    out: TextIO
    err: TextIO
    colour_out: bool = False
    colour_err: bool = False
    live: bool = False
    quiet: bool = False
    progress: Progress = field(default_factory=Progress)

    def data(self, text: str) -> None:
        """Write a line of data and let it go at once, for whoever reads a stream."""
        print(text, file=self.out, flush=True)

    def action(self, text: str) -> None:
        """Say what is being done."""
        if not self.quiet:
            self._sign("action", text)

    def wait(self, text: str) -> None:
        """Say what is waited for."""
        if not self.quiet:
            self._sign("wait", text)

    def success(self, text: str) -> None:
        """Say what has been done."""
        if not self.quiet:
            self._sign("success", text)

    def note(self, text: str) -> None:
        """Say something plain, without a sign."""
        if not self.quiet:
            print(clean(text), file=self.err, flush=True)

    def warning(self, text: str, hint: str = "") -> None:
        """Say what a person should know although it is no failure."""
        self._sign("warning", text)
        self._hint(hint)

    def failure(self, text: str, hint: str = "") -> None:
        """Say what went wrong."""
        self._sign("failure", text)
        self._hint(hint)

    def error(self, error: GitwrightError) -> None:
        """Show an error whole: object, message, place, detail and hint."""
        message, *more = error.message.splitlines() or [error.reason]
        subject = error.subject if error.subject and error.subject not in error.message else ""
        self._sign("failure", f"{subject}: {message}" if subject else message)
        extra = ": ".join(part for part in (error.place, error.detail) if part)
        for line in [*more, *extra.splitlines()]:
            print(f"  {clean(line)}", file=self.err, flush=True)
        self._hint(error.hint)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Show `progress` as a live line with a spinner while the block runs, on a terminal only."""
        if not self.live or self.quiet:
            yield
            return
        from rich.console import Console as RichConsole  # rich costs more than most verbs: only for people
        from rich.text import Text

        rich = RichConsole(file=self.err, no_color=not self.colour_err)

        def line(text: str) -> Text:
            # One line: a spinner that wraps makes everything below it jump.
            shown = Text(cell(text))
            shown.truncate(max(10, rich.width - 3), overflow="ellipsis")
            return shown

        with rich.status(line(self.progress.text)) as status:

            def show(text: str) -> None:
                status.update(line(text))

            with self.progress.shown_by(show):
                yield

    def _sign(self, sign: str, text: str) -> None:
        mark = _SIGNS[sign] if _can_show(self.err, _SIGNS[sign]) else _PLAIN_SIGNS[sign]
        if self.colour_err:
            mark = click.style(mark, fg=_SIGN_COLOURS[sign])
        print(f"{mark} {clean(text)}", file=self.err, flush=True)

    def _hint(self, hint: str) -> None:
        if hint:
            print(f"  hint: {clean(hint)}", file=self.err, flush=True)


def _can_show(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

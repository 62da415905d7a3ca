"""Redaction of secrets in text, by taint and by pattern.

Role in the flow: whoever reads a secret value taints it here; whoever lets text
out of the process (logs, events, conditions, API answers) cleans it here. It must
not know where a value came from or where a text goes. Source: spec/security.md S17.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "***"

_SHORTEST = 4
"""Shorter values would mask ordinary words; it is also the length of the index's prefixes."""
_PIECE = 65_536
_TOTAL = 16 * 1024 * 1024
_LINE = 20

_URL_USER = re.compile(r"://([^\s/?#\"'<>]*)@")
_HEADER = re.compile(
    r"(?i)(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\[\"']*)"
    r"(?:(?:basic|bearer|token|digest|negotiate|aws4-hmac-sha256)\s+)?[^\s\"',;\]]+"
)
# Words that follow the scheme in ordinary sentences and challenges, where nothing is secret.
_PLAIN = (
    r"(?:tokens?|auth(?:entication|orization|orisation)?|credentials?"
    r"|scheme|realm|error|is|was|or|and|in|for)"
)
_BEARER = re.compile(rf"(?i)\b(bearer\s+)(?!{_PLAIN}\b)[a-z0-9._~+/=-]{{3,}}")
_BASIC = re.compile(r"\b((?:Basic|basic)\s+)(?![A-Za-z]?[a-z]*(?![A-Za-z0-9+/=]))[A-Za-z0-9+/=_-]{6,}")
_PARAMETER = re.compile(
    r"(?i)([?&](?:access_token|refresh_token|id_token|private_token|token|password|passwd|secret"
    r"|client_secret|api_key|apikey|sig|signature|x-amz-signature|x-amz-security-token|x-goog-signature)=)"
    r"[^&\s\"'<>]+"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL
)
_Gram = tuple[str, ...]


class _Bucket:
    """Known forms with the same first characters, found by length: many tokens begin alike."""

    __slots__ = ("counts", "forms", "lengths")

    def __init__(self) -> None:
        self.forms: set[str] = set()
        self.counts: dict[int, int] = {}
        self.lengths: tuple[int, ...] = ()

    def add(self, form: str) -> None:
        self.forms.add(form)
        self._count(len(form), 1)

    def drop(self, form: str) -> None:
        self.forms.discard(form)
        self._count(len(form), -1)

    def longest_at(self, text: str, position: int) -> int:
        """Give the length of the longest form that stands in the text there, or 0."""
        for length in self.lengths:
            if text[position : position + length] in self.forms:
                return length
        return 0

    def _count(self, length: int, change: int) -> None:
        count = self.counts.get(length, 0) + change
        if count:
            self.counts[length] = count
        else:
            del self.counts[length]
        if count == max(change, 0):
            # A new tuple, never a change in place: readers do not take the lock.
            self.lengths = tuple(sorted(self.counts, reverse=True))


class Redactor:
    """A bounded registry of secret values, and the cleaning of text from them.

    Text is scanned once however many values are known: each known form is filed
    under its first four characters. Memory is bounded by the number of values and by
    16 Mi characters in all; the values not seen for the longest time go first.
    Methods may be called from any thread.

    Args:
        capacity: how many values are remembered.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._counts: dict[str, int] = {}
        self._index: dict[_Gram, _Bucket] = {}
        self._size = 0

    def __len__(self) -> int:
        """Give the number of values remembered."""
        return len(self._values)

    def taint(self, value: str | bytes) -> None:
        """Remember a secret value and the shapes it takes on its way out.

        Besides the value itself: without the space around it, its long lines, base64
        (both alphabets, with and without padding), URL-quoted and JSON-escaped.

        Args:
            value: the secret; shorter than four characters it is ignored.
        """
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if len(text) < _SHORTEST:
            return
        with self._lock:
            if text in self._values:
                self._values.move_to_end(text)
                return
            forms = tuple(dict.fromkeys(_forms(text, value)))
            self._values[text] = forms
            for form in forms:
                self._remember(form)
            while len(self._values) > self._capacity or (self._size > _TOTAL and len(self._values) > 1):
                _, gone = self._values.popitem(last=False)
                for form in gone:
                    self._drop(form)

    def clean(self, text: str) -> str:
        """Give the text with every tainted value and every visible credential as `***`.

        Masks also what only looks like a credential: the user part of URLs,
        `Authorization` headers, bearer tokens, private key blocks, token parameters.

        Args:
            text: any text; a megabyte takes tens of milliseconds, so clean that in a thread.
        """
        return _clean_patterns(self._clean_values(text))

    def _clean_values(self, text: str) -> str:
        index = self._index
        if not index or index.keys().isdisjoint(zip(text, text[1:], text[2:], text[3:], strict=False)):
            return text
        parts: list[str] = []
        kept = 0
        for start, end in _spans(text, index):
            parts += (text[kept:start], MASK)
            kept = end
        parts.append(text[kept:])
        return "".join(parts)

    def _remember(self, form: str) -> None:
        count = self._counts.get(form, 0)
        self._counts[form] = count + 1
        if count:
            return
        self._size += len(form)
        gram = tuple(form[:_SHORTEST])
        self._index.setdefault(gram, _Bucket()).add(form)

    def _drop(self, form: str) -> None:
        self._counts[form] -= 1
        if self._counts[form]:
            return
        del self._counts[form]
        self._size -= len(form)
        gram = tuple(form[:_SHORTEST])
        bucket = self._index[gram]
        bucket.drop(form)
        if not bucket.forms:
            del self._index[gram]


def _forms(text: str, value: str | bytes) -> Iterator[str]:
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    standard = base64.b64encode(raw).decode()
    lines = [line.strip() for line in text.splitlines()]
    candidates = [
        text,
        text.strip(),
        standard,
        standard.rstrip("="),
        standard.replace("+", "-").replace("/", "_"),
        standard.replace("+", "-").replace("/", "_").rstrip("="),
        quote(raw, safe=""),
        quote_plus(raw),
        quote(raw),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
    ]
    if len(lines) > 1:
        # Keys and certificates are printed line by line; lines with blanks are prose or configuration.
        candidates += [line for line in lines if len(line) >= _LINE and " " not in line]
    for form in candidates:
        for start in range(0, len(form), _PIECE):
            piece = form[start : start + _PIECE]
            if len(piece) >= _SHORTEST:
                yield piece


def _spans(text: str, index: dict[_Gram, _Bucket]) -> Iterator[tuple[int, int]]:
    """Give the parts of the text that known forms cover, joined where they touch or overlap."""
    begin = end = -1
    for position, gram in enumerate(zip(text, text[1:], text[2:], text[3:], strict=False)):
        bucket = index.get(gram)
        length = bucket.longest_at(text, position) if bucket is not None else 0
        if not length:
            continue
        if position > end:
            if end > begin:
                yield begin, end
            begin = position
        end = max(end, position + length)
    if end > begin:
        yield begin, end


def _clean_patterns(text: str) -> str:
    if "://" in text and "@" in text:
        text = _URL_USER.sub(_mask_user, text)
    # Looking for words first is a tenth of the cost of the patterns, and lines without them are the rule.
    low = text.lower()
    if "authorization" in low:
        text = _HEADER.sub(rf"\1{MASK}", text)
    if "bearer" in low:
        text = _BEARER.sub(rf"\1{MASK}", text)
    if "basic" in low:
        text = _BASIC.sub(rf"\1{MASK}", text)
    if "=" in text and ("?" in text or "&" in text):
        text = _PARAMETER.sub(rf"\1{MASK}", text)
    if "-----BEGIN " in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    return text


def _mask_user(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 8) : match.start()]
    # With ssh the user alone is part of the address, and Flux's messages name it.
    if before.endswith("ssh") and ":" not in match.group(1):
        return match.group(0)
    return f"://{MASK}@"

"""Which encoding a text file has.

Told by a few rules, not by charset-normalizer: a table has a handful of bytes beyond ASCII, in its
headings, from which statistics of languages learn nothing.
"""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NEVER_IN_TEXT = bytes({*range(1, 32)} - set(b"\t\n\v\f\r\x1b"))
# Two bytes of GB2312, of which Chinese instruments take their headings.
_CHINESE = re.compile(rb"(?:[\xa1-\xf7][\xa1-\xfe])+")
# ASCII, Western letters and signs, Greek, Cyrillic.
_EXPECTED = re.compile("[\\0-\u017f\u0370-\u03ff\u0410-\u044f]+")


def find_encoding(head: bytes) -> str:
    """Return the encoding of a text by its beginning, ``""`` where it is no text.

    Parameters
    ----------
    head
        The first bytes of the file; a character may be cut at their end.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        return _utf16(head)
    if len(head.translate(None, _NEVER_IN_TEXT)) < len(head):
        return ""
    if head.isascii():
        return "utf-8"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return one_or_two_bytes(head)
    # Two Chinese characters in GBK may be valid UTF-8, of scripts that no instrument writes.
    beyond = re.sub(_EXPECTED, "", text)
    strange = bool(beyond) and all(character < "\u0800" for character in beyond)
    return "gbk" if strange and one_or_two_bytes(head) == "gbk" else "utf-8"


def one_or_two_bytes(text: bytes) -> str:
    """Return the encoding of a text that is not UTF-8: GBK, or what Windows writes in the West."""
    high = re.findall(rb"[\x80-\xff]+", text)
    if all(_CHINESE.fullmatch(run) for run in high[:-1] or high):
        return "gbk"
    return "cp1252"


def _utf16(head: bytes) -> str:
    even, odd = head[::2], head[1::2]
    zeros = (even.count(0) / max(len(even), 1), odd.count(0) / max(len(odd), 1))
    # Digits and separators have a zero byte; Chinese headings have none.
    if zeros[1] > 0.4 and zeros[0] < 0.05:
        return "utf-16-le"
    if zeros[0] > 0.4 and zeros[1] < 0.05:
        return "utf-16-be"
    return ""

"""Inline markup as plain text: superscripts, subscripts, formulas, citation marks."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree  # type: ignore[attr-defined]

RAISED = dict(zip("0123456789+-−–=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿ", strict=True))
LOWERED = dict(zip("0123456789+-−–=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎", strict=True))
RELATIONS = frozenset("=<>≤≥≈≠±×∈→⩽⩾")
ORDINALS = frozenset({"st", "nd", "rd", "th", "e", "er", "ère", "re", "ème", "eme", "nde", "o", "a", "º", "ª"})

# Unicode noncharacters, which no text contains: they mark citations
MARK, OPEN, CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"
MARKS = re.compile(f"[{MARK}{OPEN}{CLOSE}]")
CITED = f"(?:{MARK}|{OPEN}[^{CLOSE}]*{CLOSE})"
FILLER = (
    r"(?:[\s,;:.–—-]|\b(?:see|also|e\.g|eg|i\.e|cf|reviewed|reviews?|for|an?|in|and|or|refs?|references?|reference|voir|aussi"
    r"|et|ou|par|exemple|p\.\s?ex|réfs?|revue|dans)\b|&)"
)
BRACKETED = re.compile(rf"\s*[\[(]{FILLER}*{CITED}(?:{FILLER}|{CITED})*[\])]")
EMPTIED = re.compile(r"\s*[\[(][\s,;–-]*[\])]")  # brackets that contained only text that is left out
BETWEEN = r"(?:\s*[,;–—-]\s*|\s+(?:and|et|&)\s+|\s*)"
RUN = re.compile(rf"\s*{MARK}(?:{BETWEEN}{MARK})*")
FIRST_IN_BRACKETS = re.compile(rf"(?<=[\[(]){RUN.pattern}\s*[,;]\s*")
LAST_IN_BRACKETS = re.compile(rf"\s*[,;]{RUN.pattern}(?=[\])])")


def raised(text: str, before: str) -> str:
    """A superscript: in Unicode superscripts where they exist (10³), else with a caret if a number would change.

    Args:
        text: The superscript.
        before: The text before it.
    """
    inner = text.strip()
    if not inner or MARKS.search(inner):
        return text
    if all(sign in RAISED for sign in inner):
        return text.replace(inner, "".join(RAISED[sign] for sign in inner))
    last = before[-1:]
    if inner.lower() in ORDINALS or not (last.isalnum() or last in ")]"):
        return text
    if any(sign.isdigit() or sign in "+-−*/" for sign in inner) or last.isdigit():
        return text.replace(inner, f"^{_grouped(inner)}")
    return text


def lowered(text: str, before: str, after: str) -> str:
    """A subscript: unchanged (H2O), but in Unicode subscripts if it would otherwise join a number before or after it."""
    inner = text.strip()
    if not inner or not all(sign in LOWERED for sign in inner):
        return text
    if not (before[-1:].isdigit() or (after[:1].isdigit() and not text[-1].isspace())):
        return text
    return text.replace(inner, "".join(LOWERED[sign] for sign in inner))


def without_citations(text: str) -> str:
    """Removes citations. `MARK` replaces a citation mark; `OPEN` and `CLOSE` enclose a citation with authors' names.

    Marks are removed with the punctuation between them and the brackets around them. A citation with names is removed
    if it is in brackets that contain nothing else, and kept if it is part of a sentence.
    """
    text = BRACKETED.sub("", text)
    text = LAST_IN_BRACKETS.sub("", FIRST_IN_BRACKETS.sub("", text))
    return EMPTIED.sub("", MARKS.sub("", RUN.sub("", text)))


def formula(element: Any) -> str:
    """A JATS formula on one line: its MathML, else its TeX, else its text; "[formula]" if it is only a picture."""
    math = element if _name(element) == "math" else next(element.iter("{*}math"), None)
    tex = next(element.iter("{*}tex-math"), None)
    found = _linear(math) if math is not None else ""
    if not found and tex is not None:
        found = _tex("".join(tex.itertext()))
    if math is None and tex is None:
        found = "".join(_plain(element))
    return " ".join(found.split()) or "[formula]"


def _tex(source: str) -> str:
    """TeX without the document preamble that journals add to each formula, and without dollar signs."""
    if match := re.search(r"\\begin\{document\}(.*?)\\end\{document\}", source, re.DOTALL):
        source = match[1]
    return source.strip().strip("$").removeprefix(r"\(").removesuffix(r"\)").strip()


def _plain(element: Any) -> list[str]:
    parts = [element.text or ""]
    for child in element:
        inner = "".join(_plain(child)) if _name(child) not in ("", "alt-text", "label") else ""
        inner = raised(inner, "".join(parts)) if _name(child) == "sup" else inner
        parts += [inner, child.tail or ""]
    return parts


def _linear(element: Any) -> str:
    """MathML on one line: a^(n+1), a_i, (a + b)/c."""
    children = [_linear(child) for child in element if isinstance(child.tag, str)]
    name = _name(element)
    if name in ("annotation", "annotation-xml"):
        return ""
    if not children:
        text = " ".join((element.text or "").split())
        apart = name in ("mtext", "mspace") or (name == "mo" and text in RELATIONS) or (name == "mi" and len(text) > 1)
        return f" {text} " if apart else text
    if name in ("msup", "msub", "munder", "mover") and len(children) == 2:
        return children[0].rstrip() + ("^" if name in ("msup", "mover") else "_") + _grouped(children[1])
    if name in ("msubsup", "munderover") and len(children) == 3:
        return f"{children[0].rstrip()}_{_grouped(children[1])}^{_grouped(children[2])}"
    if name == "mfrac" and len(children) == 2:
        return f"{_grouped(children[0])}/{_grouped(children[1])}"
    if name == "msqrt":
        return f"√{_grouped(''.join(children))}"
    if name == "mroot" and len(children) == 2:
        return f"{_grouped(children[0])}^(1/{children[1].strip()})"
    if name == "mfenced":
        sign = element.get("separators", ",")[:1] or " "
        return element.get("open", "(") + f"{sign} ".join(children) + element.get("close", ")")
    if name in ("mtr", "mtable"):
        return ("; " if name == "mtable" else ", ").join(children)
    if name == "semantics":
        return children[0]
    return "".join(children)


def _grouped(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 1 or text.isalnum() or (text[0] == "(" and text[-1] == ")") else f"({text})"


def _name(element: Any) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""

"""Articles as a reader would copy them out by hand: no holes, no wrong numbers, the license as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from detour.corpus import readers
from detour.corpus.text import Columns, ReadReport

MATHML = 'xmlns:mml="http://www.w3.org/1998/Math/MathML" xmlns:xlink="http://www.w3.org/1999/xlink"'


def cite(*numbers: object) -> list[str]:
    return [f'<xref ref-type="bibr" rid="B{n}">{n}</xref>' for n in numbers]


def text_of(tmp_path: Path, body: str, front: str = "") -> str:
    path = tmp_path / "a.nxml"
    path.write_text(
        f"<article {MATHML}><front><article-meta>{front}</article-meta></front><body><p>{body}</p></body></article>",
        encoding="utf-8",
    )
    reader = readers.build("jats")
    (document,) = (d for file in reader.input_files([str(path)]) for d in reader.read(file, Columns(), ReadReport()))
    return document.text if not front else str(document.license)


ONE, TWO, THREE, FOUR = cite(1, 2, 3, 4)
SMITH = '<xref ref-type="bibr">Smith et al., 2010</xref>'
JONES = '<xref ref-type="bibr">Jones, 2011</xref>'


@pytest.mark.parametrize(("body", "read_as"), [
    (f"as shown {ONE}, {TWO}, {THREE}, {FOUR}.", "as shown."),
    (f"as shown {ONE}–{THREE}, and more", "as shown, and more"),
    (f"as shown {ONE} and {TWO}; more", "as shown; more"),
    (f"with aspirin{ONE}, {TWO} and heparin", "with aspirin and heparin"),
    (f"aspirin {ONE}, heparin {TWO}, and none", "aspirin, heparin, and none"),
    (f"found{ONE}, and{TWO} seen", "found, and seen"),
    (f"word.<sup>{ONE},{TWO}</sup> Next", "word. Next"),
    (f"word<sup>[{ONE}]</sup> next", "word next"),
    ('word.<xref ref-type="bibr"><sup>7</sup></xref> Next', "word. Next"),
    (f"A man [{ONE}, {TWO}–{FOUR}] of 40 ({THREE}).", "A man of 40."),
    (f"known (see {ONE}; reviewed in {TWO} and {THREE}).", "known."),
    (f"known (for a review, see {SMITH}; {JONES}).", "known."),
    (f"as {SMITH} found", "as Smith et al., 2010 found"),
    (f"few (n = 5 {ONE}) and (Bell {TWO}, {THREE})", "few (n = 5) and (Bell)"),
    (f"few ({ONE}; data not shown), none (data not shown; {TWO})", "few (data not shown), none (data not shown)"),
    (f"mm [{ONE}] at 5 [mg]", "mm at 5 [mg]"),
    ('in <xref ref-type="fig">Figure 1</xref>, (Table <xref ref-type="table">2</xref>)', "in Figure 1, (Table 2)"),
    ('(Table <xref ref-type="table">1</xref>; Eq. <xref ref-type="disp-formula">3</xref>)', "(Table 1; Eq. 3)"),
    ('noted<xref ref-type="fn">*</xref> here, dose<xref ref-type="table-fn">a</xref>.', "noted here, dose."),
])  # fmt: skip
def test_citation_marks_leave_no_hole(tmp_path, body, read_as):
    assert text_of(tmp_path, body) == read_as


@pytest.mark.parametrize(("body", "read_as"), [
    ("10<sup>3</sup> cells", "10³ cells"),
    ("10<sup>−6</sup> and 10<sup>-6</sup> M", "10⁻⁶ and 10⁻⁶ M"),
    ("R<sup>2 </sup>= 0.9, 5 kg m<sup>−2</sup>", "R² = 0.9, 5 kg m⁻²"),
    ("10<sup>3.5</sup> and e<sup>−kt</sup> and 2<sup>x</sup>", "10^(3.5) and e^(−kt) and 2^x"),
    ("Ca<sup>2+</sup>, CD4<sup>+</sup>, <sup>18</sup>F", "Ca²⁺, CD4⁺, ¹⁸F"),
    ("the 5<sup>th</sup>, la 2<sup>e</sup>, le 1<sup>er</sup>", "the 5th, la 2e, le 1er"),
    ("H<sub>2</sub>O, CO<sub>2</sub>, IC<sub>50</sub>", "H2O, CO2, IC50"),
    ("log<sub>10</sub>2, log<sub>2</sub> 3, log<sub>10</sub>(x)", "log₁₀2, log2 3, log10(x)"),
    ("brand<sup>TM</sup> x<sub>max</sub>", "brandTM xmax"),
])  # fmt: skip
def test_raised_and_lowered_numbers_stay_what_they_are(tmp_path, body, read_as):
    assert text_of(tmp_path, body) == read_as


def mml(inside: str) -> str:
    return f"<inline-formula><mml:math>{inside}</mml:math></inline-formula>"


X, TWO_, N = "<mml:mi>x</mml:mi>", "<mml:mn>2</mml:mn>", "<mml:mi>n</mml:mi>"
TEX = r"\documentclass[12pt]{minimal} \usepackage{amsmath} \begin{document}$$p &lt; \alpha$$\end{document}"


@pytest.mark.parametrize(("body", "read_as"), [
    (f"where {mml(f'<mml:msup>{X}{TWO_}</mml:msup>')} is", "where x^2 is"),
    (f"where {mml(f'<mml:msub>{X}{N}</mml:msub><mml:mo>=</mml:mo>{TWO_}')} is", "where x_n = 2 is"),
    (f"where {mml(f'<mml:mfrac><mml:mrow>{X}<mml:mo>+</mml:mo>{N}</mml:mrow>{TWO_}</mml:mfrac>')} is", "where (x+n)/2 is"),
    (f"where {mml(f'<mml:msqrt>{X}</mml:msqrt>')} is", "where √x is"),
    (f"where {mml(f'<mml:semantics><mml:mrow>{X}</mml:mrow><mml:annotation>no</mml:annotation></mml:semantics>')} is",
     "where x is"),
    (f"where <inline-formula><alternatives><tex-math>{TEX}</tex-math></alternatives></inline-formula> is",
     r"where p < \alpha is"),
    ("where <inline-formula><italic>p</italic> = 10<sup>2</sup></inline-formula> is", "where p = 10² is"),
    ("where <inline-formula><inline-graphic/></inline-formula> is", "where [formula] is"),
    (f"given by:<disp-formula><label>(1)</label><mml:math>{X}</mml:math></disp-formula>where", "given by: x where"),
    (f"given <mml:math>{X}</mml:math>.", "given x."),
])  # fmt: skip
def test_formulas_leave_no_hole(tmp_path, body, read_as):
    assert text_of(tmp_path, body) == read_as


def license(words: str, attributes: str = "") -> str:
    return f"<permissions><license {attributes}><license-p>{words}</license-p></license></permissions>"


DISTRIBUTED = "This is an open-access article distributed under the terms of the "


@pytest.mark.parametrize(("front", "deed"), [
    (license(f"{DISTRIBUTED}Creative Commons Attribution License, which permits unrestricted use"), "by"),
    (license(f"{DISTRIBUTED}Creative Commons Attribution License (CC BY 4.0)."), "by/4.0"),
    (license(f"{DISTRIBUTED}Creative Commons Attribution 3.0 Unported License", 'license-type="open-access"'), "by/3.0"),
    (license("the Creative Commons Attribution-NonCommercial-NoDerivatives License 4.0"), "by-nc-nd/4.0"),
    (license("Creative Commons Attribution Non Commercial Share Alike license"), "by-nc-sa"),
    (license("Creative Commons Attribution, Non-Commercial and No Derivs (CC-BY-NC-ND)"), "by-nc-nd"),
    (license("made available under CC-BY-NC 4.0"), "by-nc/4.0"),
    (license("made available under the Creative Commons CC0 public domain dedication"), "publicdomain/zero/1.0"),
    (license("see http://creativecommons.org/licenses/by-sa/4.0/legalcode for terms"), "by-sa/4.0"),
    (license('<ext-link xlink:href="https://creativecommons.org/licenses/by-nc/2.0/uk/">x</ext-link>'), "by-nc/2.0/uk"),
    (license("<uri>https://creativecommons.org/licenses/by/4.0/deed.en</uri>"), "by/4.0"),
    (license("x", 'xlink:href="https://creativecommons.org/publicdomain/zero/1.0/"'), "publicdomain/zero/1.0"),
    (f"<permissions><license/></permissions>{license(DISTRIBUTED + 'Creative Commons Attribution License')}", "by"),
    (license("All rights reserved", 'license-type="open-access"'), "open-access"),
    (license("All rights reserved"), "None"),
])  # fmt: skip
def test_a_licence_is_found_in_links_and_in_words(tmp_path, front, deed):
    assert text_of(tmp_path, "x", front) == deed


def test_abstracts_of_pubmed_keep_their_powers(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(
        "<S><PubmedArticle><MedlineCitation><PMID>1</PMID><Article><Abstract><AbstractText>10<sup>3</sup> H<sub>2</sub>O"
        "</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle></S>"
    )
    reader = readers.build("pubmed")
    (file,) = reader.input_files([str(path)])
    assert [document.text for document in reader.read(file, Columns(), ReadReport())] == ["10³ H2O"]

"""Contracts of the synthetic corpus: reproducible, declared as synthetic, varied, and grammatical."""

import gzip
import io
import itertools
import json
import re
import subprocess
import sys
from collections import Counter

import pytest
import zstandard

from data_prep.synthetic import document, facts, generate
from data_prep.synthetic.cases import words
from data_prep.synthetic.english import article, duration
from data_prep.synthetic.french import forms
from data_prep.synthetic.grammar import expand, parse
from data_prep.synthetic.knowledge import differentials, diseases, drugs, labs, names


@pytest.fixture(scope="module")
def records():
    return list(generate(documents=5000, seed=17))


@pytest.fixture(scope="module")
def english(records):
    return [r["text"] for r in records if r["language"] == "en"]


@pytest.fixture(scope="module")
def french(records):
    return [r["text"] for r in records if r["language"] == "fr"]


def offences(pattern, texts):
    """What a pattern finds, with some context, so that a failure can be read."""
    found = ((text, match) for text in texts for match in re.finditer(pattern, text))
    return [text[max(match.start() - 30, 0) : match.end() + 30] for text, match in itertools.islice(found, 5)]


def test_a_document_depends_only_on_seed_and_index(records):
    assert document(index=4321, seed=17) == records[4321]
    assert list(generate(documents=20, seed=17)) == records[:20]
    assert document(index=0, seed=18)["text"] != records[0]["text"]


@pytest.mark.parametrize("index", [0, 1, 7])
def test_a_document_of_both_is_the_document_of_its_language(index):
    both = document(index=index, seed=3)
    assert both == document(index=index, seed=3, language=both["language"])


def test_another_process_generates_the_same_documents(records):
    code = "from data_prep.synthetic import document; print(ascii(document(index=11, seed=17)['text']))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.strip() == ascii(records[11]["text"])


def test_languages_take_turns_or_are_the_one_asked_for(records):
    assert [r["language"] for r in records[:4]] == ["en", "fr", "en", "fr"]
    for language in ("en", "fr"):
        assert {r["language"] for r in generate(documents=10, seed=1, language=language)} == {language}


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="'de', expected 'en', 'fr' or 'both'"):
        generate(documents=1, seed=1, language="de")


def test_every_record_says_it_is_synthetic(records):
    for record in records:
        assert list(record) == ["id", "text", "source", "license", "language", "synthetic"]
        assert record["source"] == "detour-synthetic"
        assert record["license"] == "CC0-1.0"
        assert record["synthetic"] is True


def test_no_two_documents_are_equal(records):
    assert len({r["text"] for r in records}) == len(records)
    assert len({r["id"] for r in records}) == len(records)


def test_documents_have_80_to_600_words(records):
    lengths = [len(r["text"].split()) for r in records]
    assert min(lengths) >= 80
    assert max(lengths) <= 600


def test_half_of_the_texts_open_in_their_own_way(records):
    openings = Counter(" ".join(r["text"].split()[:12]) for r in records)
    assert len(openings) > len(records) / 2


def test_three_kinds_of_document_appear(english):
    questions = sum(t.count("?") >= 5 for t in english) / len(english)
    notes = sum(bool(re.search(r"^Patient:", t, re.M)) for t in english) / len(english)
    assert 0.1 < questions < 0.2
    assert 0.1 < notes < 0.2


def test_templates_leave_no_marks_behind(records):
    assert not offences(
        r"[{}\[\]|§]|//|  |None| [,.;)]|,,|\.\.|,\.| \n|^ ", [r["text"] for r in records if r["language"] == "en"]
    )
    assert not offences(
        r"[{}\[\]|§]|//|  |None| [,.)]|,,|\.\.|,\.| \n|^ ", [r["text"] for r in records if r["language"] == "fr"]
    )


def test_sentences_and_lines_begin_with_a_capital_or_a_digit(records):
    texts = [r["text"] for r in records]
    assert not offences(r"(?m:^)[a-zà-ÿ](?!H)|[a-zé)%]{2}[.?] [a-zà-ÿ](?!H)", texts)


VOWEL = "[aeiouyâàéèêëîïôöûüœæAEIOUÉÈ]"


def test_french_elides_before_a_vowel(french):
    assert not offences(rf"\b(?:[Ll]e|[Ll]a|de|du|ne|que|se) {VOWEL}", french)


def test_french_contracts_de_and_a_with_the_article(french):
    assert not offences(r"\bde les?\b|\bà les?\b", french)


def test_french_elides_before_a_mute_h_only(french):
    assert not offences(r"\b(?:[Ll]e|[Ll]a|de|du) (?:hôpital|h[ée]m|hyp|hydr|hép|hippo|hist)", french)
    assert not offences(r"\b[ldLD]'(?:hernie|hanche|halo)", french)


def test_french_elides_before_no_consonant(french):
    assert not offences(r"\b[ldLDnsNS]'(?=[bcdfgjklmnpqrtvwxz])", french)


def test_french_articles_agree_with_their_nouns(french):
    assert not offences(r"\b(?:un|le) (?:fièvre|toux|douleur|fatigue|pneumonie|radiographie|patiente|femme)\b", french)
    assert not offences(r"\b(?:une|la) (?:essoufflement|scanner|amaigrissement|patient|homme|prurit|zona)\b", french)


def test_french_participles_agree_with_the_patient(french):
    for text in french:
        opening = text.split(".")[0]
        if re.match(r"(?:Une patiente|Une femme)\b", opening):
            assert not re.search(r"\b(?:admis|adressé|hospitalisé|amené|gêné)\b", opening), opening
        if re.match(r"(?:Un patient|Un homme)\b", opening):
            assert not re.search(r"\b(?:admise|adressée|hospitalisée|amenée|gênée)\b", opening), opening


@pytest.mark.parametrize(
    ("written", "form", "expected"),
    [
        ("f appendicite", "le", "l'appendicite"),
        ("f appendicite", "du", "de l'appendicite"),
        ("m lupus", "du", "du lupus"),
        ("f hernie", "le", "la hernie"),
        ("f hernie", "de", "de hernie"),
        ("mp œdèmes", "de", "d'œdèmes"),
        ("mp frissons", "dun", "de frissons"),
        ("f fièvre", "dun", "d'une fièvre"),
        ("fp céphalées", "au", "aux céphalées"),
        ("m asthme", "au", "à l'asthme"),
        ("fp plaquettes", "bas", "basses"),
        ("mp leucocytes", "bas", "bas"),
    ],
)
def test_french_forms_of_a_noun(written, form, expected):
    assert forms(written, "")[form] == expected


def test_english_articles_fit_the_next_sound(english):
    assert not offences(r"\b[Aa] [aeioAEIO8](?!ne\b)|\b[Aa] (?:11|18)\b(?!,)", english)
    assert not offences(r"\b[Aa]n (?![aeiouAEIOHMNSLF81])|\b[Aa]n (?:uni|uri|eu|h[a-z])", english)


@pytest.mark.parametrize("number", ["8", "11", "18", "85", "81"])
def test_english_numbers_that_take_an(number):
    assert article(number) == "an"


@pytest.mark.parametrize("number", ["1", "16", "42", "110", "180"])
def test_english_numbers_that_take_a(number):
    assert article(number) == "a"


def test_english_durations_are_plural_from_two():
    assert (duration(1, "d"), duration(3, "w"), duration(14, "m")) == ("one day", "three weeks", "14 months")


def test_pronouns_agree_with_the_patient(english):
    for text in english:
        opening = text.split(".")[0]
        if re.search(r"-year-old man\b", opening):
            assert not re.search(r"\b(?:she|her)\b", text, re.I), text
        if re.search(r"-year-old woman\b", opening):
            assert not re.search(r"\b(?:he|his|him)\b", text, re.I), text


def test_the_table_is_complete():
    phrases, table = names(), diseases()
    assert len(table) >= 40
    for d in table:
        used = {
            d.name,
            d.definition,
            d.organ,
            d.specialty,
            d.care,
            *d.symptoms,
            *d.signs,
            *d.drugs,
            *d.risks,
            *d.complications,
        }
        used |= {phrase for test in d.tests for phrase in test} | {drugs()[drug].kind for drug in d.drugs}
        assert not used - set(phrases), d.name
        assert not set(d.labs) - set(labs()), d.name
        assert d.drugs
        assert min(len(d.symptoms), 4) == 4, d.name
        assert len(d.tests) >= 2, d.name
        assert d.name not in differentials(d.name)


def test_symptoms_identify_the_disease():
    sets = [frozenset(d.symptoms) for d in diseases()]
    assert len(set(sets)) == len(sets)
    assert all(len(a & b) <= 3 for a, b in itertools.combinations(sets, 2))


@pytest.mark.parametrize("language", ["en", "fr"])
def test_facts_are_found_in_the_texts(language):
    known = facts(language)
    assert len({f.disease for f in known}) == len(diseases())
    text = " ".join(r["text"] for r in generate(documents=1500, seed=5, language=language)).lower()
    for fact in known:
        assert all(phrase.lower() in text for phrase in fact), fact


@pytest.mark.parametrize("language", ["en", "fr"])
def test_sides_stay_within_a_document(language):
    first, second = words(language)
    side = {"en": ("right", "left"), "fr": ("droite", "gauche")}[language]
    assert first["right basal crackles"]["bare"].replace(side[0], side[1]) == second["right basal crackles"]["bare"]


def test_a_template_nests_alternatives_and_joins_lists():
    context = {"n": [{"x": "a"}, {"x": "b"}, {"x": "c"}], "w": "now"}
    assert expand(parse("[[one|one]|one] {n.x} {w}."), context, lambda: 0.5, {"": " and "}) == "one a, b and c now."


@pytest.mark.parametrize("text", ["[open", "closed]", "a|b"])
def test_a_damaged_template_is_refused(text):
    with pytest.raises(ValueError, match="in template"):
        parse(text)


@pytest.mark.parametrize("suffix", ["jsonl.zst", "jsonl.gz"])
def test_the_command_writes_train_and_validation(tmp_path, suffix):
    from typer.testing import CliRunner

    from data_prep.synthetic.__main__ import app

    options = ["--documents", "200", "--seed", "4", "--validation-share", "0.2", "--suffix", suffix]
    for folder in ("one", "two"):
        done = CliRunner().invoke(app, ["--out", str(tmp_path / folder), *options])
        assert done.exit_code == 0, done.output
    parts = {}
    for part in ("train", "val"):
        path = tmp_path / "one" / f"synthetic.{part}.{suffix}"
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        packed = path.read_bytes()
        raw = (
            gzip.decompress(packed)
            if suffix.endswith("gz")
            else zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read()
        )
        parts[part] = [json.loads(line) for line in raw.decode().splitlines()]
    assert sorted(r["id"] for p in parts.values() for r in p) == [
        r["id"] for r in sorted(generate(documents=200, seed=4), key=lambda r: r["id"])
    ]
    assert 15 <= len(parts["val"]) <= 65
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [
        f"synthetic.train.{suffix}",
        f"synthetic.val.{suffix}",
    ]

"""Diseases, drugs and laboratory tests of the generator, independent of language except for their names."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

from data_prep.synthetic.diseases import DISEASES
from data_prep.synthetic.grammar import lines_of
from data_prep.synthetic.lexicon import LEXICON

Range = tuple[float, float]

# name = French | doses | frequency and route | days ('' is long term) | class
_DRUGS = """
acetazolamide = m acétazolamide | 250 mg, 500 mg | bd iv | 2-4 | carbonic anhydrase inhibitor
adalimumab = m adalimumab | 40 mg | q2w sc | | TNF inhibitor
adrenaline = f adrénaline | 0.3 mg, 0.5 mg | stat im | | catecholamine
alginate = m alginate | 10 mL | qds po | 14-28 | reflux suppressant
allopurinol = m allopurinol | 100 mg, 200 mg, 300 mg | od po | | xanthine oxidase inhibitor
alteplase = f altéplase | 0.9 mg/kg | stat iv | | thrombolytic agent
amiodarone = f amiodarone | 200 mg, 400 mg | od po | | antiarrhythmic drug
amlodipine = f amlodipine | 5 mg, 10 mg | od po | | calcium channel blocker
amoxicillin = f amoxicilline | 1 g, 500 mg | tds po | 6-14 | penicillin antibiotic
apixaban = m apixaban | 5 mg, 2.5 mg | bd po | | oral anticoagulant
artemether-lumefantrine = m artéméther-luméfantrine | 80 mg | bd po | 3-3 | antimalarial drug
artesunate = m artésunate | 2.4 mg/kg | bd iv | 2-5 | antimalarial drug
aspirin = f aspirine | 75 mg, 100 mg | od po | | antiplatelet drug
atorvastatin = f atorvastatine | 40 mg, 80 mg | od po | | statin
azathioprine = f azathioprine | 100 mg, 150 mg | od po | | immunosuppressant
bevacizumab = m bévacizumab | 5 mg/kg | q2w iv | | angiogenesis inhibitor
bisoprolol = m bisoprolol | 1.25 mg, 2.5 mg, 5 mg | od po | | beta-blocker
bortezomib = m bortézomib | 1.3 mg/m2 | wk sc | | proteasome inhibitor
budesonide = m budésonide | 9 mg | od po | 42-56 | corticosteroid
calcipotriol = m calcipotriol | 50 micrograms/g | bd top | 28-56 | vitamin D analogue
capecitabine = f capécitabine | 1000 mg/m2 | bd po | 14-14 | cytotoxic drug
carbimazole = m carbimazole | 20 mg, 30 mg, 40 mg | od po | | antithyroid drug
carboplatin = m carboplatine | 400 mg/m2 | q3w iv | | cytotoxic drug
cefotaxime = m céfotaxime | 1 g, 2 g | tds iv | 7-14 | cephalosporin antibiotic
ceftriaxone = f ceftriaxone | 1 g, 2 g | od iv | 7-28 | cephalosporin antibiotic
chlorphenamine = f chlorphénamine | 10 mg | stat iv | | antihistamine
ciprofloxacin = f ciprofloxacine | 500 mg | bd po | 7-10 | fluoroquinolone antibiotic
clarithromycin = f clarithromycine | 500 mg | bd po | 7-14 | macrolide antibiotic
clindamycin = f clindamycine | 300 mg, 600 mg | tds po | 7-10 | lincosamide antibiotic
clobazam = m clobazam | 10 mg, 20 mg | nocte po | | benzodiazepine
clopidogrel = m clopidogrel | 75 mg | od po | | antiplatelet drug
co-amoxiclav = f amoxicilline-acide clavulanique | 1 g | tds po | 5-10 | penicillin antibiotic
colchicine = f colchicine | 0.5 mg, 1 mg | bd po | 5-14 | anti-inflammatory drug
colecalciferol = m colécalciférol | 800 IU, 1000 IU | od po | | vitamin supplement
cytarabine = f cytarabine | 100 mg/m2, 200 mg/m2 | cont iv | 7-7 | cytotoxic drug
dapagliflozin = f dapagliflozine | 10 mg | od po | | SGLT2 inhibitor
darbepoetin = f darbépoétine | 30 micrograms, 40 micrograms | wk sc | | erythropoiesis-stimulating agent
daunorubicin = f daunorubicine | 60 mg/m2, 90 mg/m2 | od iv | 3-3 | cytotoxic drug
dexamethasone = f dexaméthasone | 10 mg | qds iv | 4-4 | corticosteroid
docetaxel = m docétaxel | 75 mg/m2, 100 mg/m2 | q3w iv | | cytotoxic drug
doxycycline = f doxycycline | 100 mg | bd po | 5-21 | tetracycline antibiotic
empagliflozin = f empagliflozine | 10 mg, 25 mg | od po | | SGLT2 inhibitor
enoxaparin = f énoxaparine | 1 mg/kg | bd sc | 5-10 | low-molecular-weight heparin
esomeprazole = m ésoméprazole | 20 mg, 40 mg | od po | 28-56 | proton pump inhibitor
ethambutol = m éthambutol | 800 mg, 1 g | od po | 56-60 | antituberculous drug
ferric carboxymaltose = m carboxymaltose ferrique | 500 mg, 1 g | stat iv | | iron supplement
ferrous sulfate = m sulfate ferreux | 200 mg | od po | 90-120 | iron supplement
finasteride = m finastéride | 5 mg | od po | | 5-alpha-reductase inhibitor
flucloxacillin = f flucloxacilline | 1 g, 2 g | qds iv | 7-28 | penicillin antibiotic
fludrocortisone = f fludrocortisone | 50 micrograms, 100 micrograms | od po | | corticosteroid
folic acid = m acide folique | 5 mg | od po | | vitamin supplement
furosemide = m furosémide | 40 mg, 80 mg | bd iv | 3-7 | loop diuretic
gabapentin = f gabapentine | 300 mg | tds po | 14-42 | anticonvulsant
gentamicin = f gentamicine | 5 mg/kg, 3 mg/kg | od iv | 2-5 | aminoglycoside antibiotic
hydrocortisone = f hydrocortisone | 100 mg | qds iv | 2-4 | corticosteroid
hydroxycarbamide = m hydroxycarbamide | 500 mg, 1 g | od po | | cytotoxic drug
hydroxychloroquine = f hydroxychloroquine | 200 mg, 400 mg | od po | | antimalarial drug
ibuprofen = m ibuprofène | 400 mg, 600 mg | tds po | 5-14 | anti-inflammatory drug
infliximab = m infliximab | 5 mg/kg | q8w iv | | TNF inhibitor
insulin = f insuline | 0.1 units/kg/h | cont iv | 1-2 | hormone replacement
intravenous immunoglobulin = fp immunoglobulines polyvalentes | 0.4 g/kg | od iv | 5-5 | immunomodulator
ipratropium = m ipratropium | 0.5 mg | qds inh | 1-3 | anticholinergic bronchodilator
isoniazid = m isoniazide | 300 mg | od po | 180-180 | antituberculous drug
ketoprofen = m kétoprofène | 100 mg | bd iv | 1-3 | anti-inflammatory drug
labetalol = m labétalol | 2 mg/min | cont iv | 1-3 | beta-blocker
lactulose = m lactulose | 15 mL, 20 mL | tds po | | osmotic laxative
lamotrigine = f lamotrigine | 25 mg, 50 mg, 100 mg | bd po | | anticonvulsant
lenalidomide = m lénalidomide | 25 mg | od po | 21-21 | immunomodulator
letrozole = m létrozole | 2.5 mg | od po | | aromatase inhibitor
levetiracetam = m lévétiracétam | 500 mg, 1 g | bd po | | anticonvulsant
levodopa = f lévodopa | 100 mg | tds po | | dopamine precursor
levothyroxine = f lévothyroxine | 50 micrograms, 75 micrograms, 100 micrograms | od po | | hormone replacement
mesalazine = f mésalazine | 2 g, 4 g | od po | | anti-inflammatory drug
metformin = f metformine | 500 mg, 850 mg, 1 g | bd po | | biguanide
methotrexate = m méthotrexate | 10 mg, 15 mg | wk po | | immunosuppressant
methylprednisolone = f méthylprednisolone | 1 g | od iv | 3-5 | corticosteroid
metronidazole = m métronidazole | 500 mg | tds iv | 5-7 | nitroimidazole antibiotic
mirtazapine = f mirtazapine | 15 mg, 30 mg | nocte po | | antidepressant
morphine = f morphine | 5 mg, 10 mg | prn sc | 1-3 | opioid analgesic
mycophenolate = m mycophénolate | 1 g | bd po | | immunosuppressant
natalizumab = m natalizumab | 300 mg | q4w iv | | monoclonal antibody
nimodipine = f nimodipine | 60 mg | q4h po | 21-21 | calcium channel blocker
ocrelizumab = m ocrélizumab | 600 mg | q6m iv | | monoclonal antibody
omeprazole = m oméprazole | 20 mg, 40 mg | bd po | 28-56 | proton pump inhibitor
ondansetron = m ondansétron | 4 mg, 8 mg | bd iv | 1-3 | antiemetic
oxaliplatin = m oxaliplatine | 85 mg/m2, 130 mg/m2 | q3w iv | | cytotoxic drug
paracetamol = m paracétamol | 1 g | qds po | 3-7 | analgesic
pembrolizumab = m pembrolizumab | 200 mg | q3w iv | | immune checkpoint inhibitor
pemetrexed = m pémétrexed | 500 mg/m2 | q3w iv | | cytotoxic drug
pilocarpine = f pilocarpine | 1 drop | qds eye | 1-3 | cholinergic eye drop
piperacillin-tazobactam = f pipéracilline-tazobactam | 4 g | tds iv | 5-7 | penicillin antibiotic
potassium chloride = m chlorure de potassium | 20 mmol/L, 40 mmol/L | cont iv | 1-2 | electrolyte supplement
prednisolone = f prednisolone | 30 mg, 40 mg, 60 mg | od po | 5-28 | corticosteroid
pregabalin = f prégabaline | 75 mg, 150 mg | bd po | 21-42 | anticonvulsant
propranolol = m propranolol | 20 mg, 40 mg | bd po | | beta-blocker
pyrazinamide = m pyrazinamide | 1.5 g, 2 g | od po | 56-60 | antituberculous drug
pyridostigmine = f pyridostigmine | 30 mg, 60 mg | qds po | | cholinesterase inhibitor
ramipril = m ramipril | 2.5 mg, 5 mg | od po | | ACE inhibitor
rasagiline = f rasagiline | 1 mg | od po | | MAO-B inhibitor
rifampicin = f rifampicine | 450 mg, 600 mg | od po | 180-180 | antituberculous drug
rivaroxaban = m rivaroxaban | 15 mg, 20 mg | od po | 90-180 | oral anticoagulant
ropinirole = m ropinirole | 1 mg, 2 mg | tds po | | dopamine agonist
salbutamol = m salbutamol | 2.5 mg, 5 mg | qds inh | 1-4 | beta-agonist bronchodilator
secukinumab = m sécukinumab | 300 mg | q4w sc | | monoclonal antibody
semaglutide = m sémaglutide | 0.25 mg, 0.5 mg | wk sc | | GLP-1 receptor agonist
sertraline = f sertraline | 50 mg, 100 mg | od po | | antidepressant
sevelamer = m sévélamer | 800 mg | tds po | | phosphate binder
spironolactone = f spironolactone | 25 mg, 50 mg, 100 mg | od po | | potassium-sparing diuretic
sumatriptan = m sumatriptan | 50 mg, 100 mg | prn po | | triptan
tamsulosin = f tamsulosine | 0.4 mg | od po | 14-28 | alpha-blocker
ticagrelor = m ticagrélor | 90 mg | bd po | | antiplatelet drug
timolol = m timolol | 1 drop | bd eye | 7-28 | beta-blocker
tiotropium = m tiotropium | 18 micrograms | od inh | | anticholinergic bronchodilator
tocilizumab = m tocilizumab | 162 mg | wk sc | | interleukin-6 inhibitor
topiramate = m topiramate | 25 mg, 50 mg | bd po | | anticonvulsant
trastuzumab = m trastuzumab | 6 mg/kg | q3w iv | | monoclonal antibody
valaciclovir = m valaciclovir | 1 g | tds po | 7-7 | antiviral drug
vedolizumab = m védolizumab | 300 mg | q8w iv | | monoclonal antibody
"""

# key = English | French | unit | normal range | decimals
_LABS = """
alb = an albumin | f albuminémie | g/L | 38-46 | 0
alt = an alanine aminotransferase | f alanine aminotransférase | U/L | 12-38 | 0
b12 = a vitamin B12 | f vitamine B12 | pmol/L | 220-560 | 0
bili = a bilirubin | f bilirubine totale | µmol/L | 6-17 | 0
bnp = an NT-proBNP | m NT-proBNP | ng/L | 30-110 | 0
calc = a corrected calcium | f calcémie corrigée | mmol/L | 2.25-2.5 | 2
cea = a carcinoembryonic antigen | m antigène carcinoembryonnaire | µg/L | 1-3 | 0
cortisol = a morning cortisol | f cortisolémie matinale | nmol/L | 250-540 | 0
creat = a creatinine | f créatininémie | µmol/L | 56-94 | 0
crp = a C-reactive protein | f protéine C réactive | mg/L | 1-5 | 0
ddimer = a D-dimer | mp D-dimères | ng/mL | 150-450 | 0
esr = an erythrocyte sedimentation rate | f vitesse de sédimentation | mm/h | 4-18 | 0
ferritin = a ferritin | f ferritinémie | µg/L | 45-210 | 0
ft4 = a free thyroxine | f thyroxine libre | pmol/L | 11-20 | 1
glucose = a glucose | f glycémie | mmol/L | 4.4-6 | 1
hb = a haemoglobin | f hémoglobine | g/dL | 12.6-15.8 | 1
hba1c = an HbA1c | f hémoglobine glyquée | % | 5-5.6 | 1
inr = an INR | m INR | | 0.9-1.1 | 1
k = a potassium | f kaliémie | mmol/L | 3.6-4.7 | 1
lactate = a lactate | f lactatémie | mmol/L | 0.6-1.5 | 1
ldh = a lactate dehydrogenase | f lactate déshydrogénase | U/L | 140-220 | 0
lipase = a lipase | f lipasémie | U/L | 15-55 | 0
mcv = a mean corpuscular volume | m volume globulaire moyen | fL | 83-96 | 0
na = a sodium | f natrémie | mmol/L | 136-144 | 0
ph = an arterial pH | m pH artériel | | 7.37-7.43 | 2
plt = a platelet count | fp plaquettes | G/L | 170-350 | 0
prot = a 24-hour urinary protein | f protéinurie des 24 heures | g | 0.05-0.13 | 2
psa = a prostate-specific antigen | m antigène prostatique spécifique | ng/mL | 0.6-2.8 | 1
trop = a high-sensitivity troponin | f troponine ultrasensible | ng/L | 2-12 | 0
tsh = a thyroid-stimulating hormone | f thyréostimuline | mIU/L | 0.6-3.8 | 2
urate = a uric acid | f uricémie | µmol/L | 220-370 | 0
wbc = a white cell count | mp leucocytes | G/L | 4.6-9.4 | 1
"""

# comorbidities with their usual drug
COMORBIDITIES = (
    ("hypertension", "amlodipine"),
    ("hypercholesterolaemia", "atorvastatin"),
    ("type 2 diabetes", "metformin"),
    ("osteoarthritis", "paracetamol"),
    ("gastro-oesophageal reflux disease", "omeprazole"),
    ("primary hypothyroidism", "levothyroxine"),
    ("asthma", "salbutamol"),
    ("gout", "allopurinol"),
    ("ischaemic heart disease", "aspirin"),
    ("anxiety", "sertraline"),
)
NORMAL_LABS = ("na", "k", "creat", "hb", "plt", "glucose", "wbc", "alt")
NORMAL_VITALS: dict[str, Range] = {"T": (36.4, 37.3), "H": (62, 88), "P": (112, 138), "S": (96, 99), "R": (13, 18)}


@dataclass(frozen=True, kw_only=True)
class Drug:
    """A drug with its prescription; `kind` is its class."""

    doses: tuple[str, ...]
    frequency: str
    route: str
    days: tuple[int, int] | None
    kind: str


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A laboratory test: unit, normal range, and printed decimals."""

    unit: str
    normal: Range
    decimals: int


@dataclass(frozen=True, kw_only=True)
class Disease:
    """One disease of the table. Strings are keys of `names`; `tests` pairs each test with its finding."""

    name: str
    organ: str
    specialty: str
    ages: tuple[int, int]
    women: float
    onset: tuple[int, int]
    onset_unit: str
    symptoms: tuple[str, ...]
    signs: tuple[str, ...]
    tests: tuple[tuple[str, str], ...]
    labs: dict[str, Range]
    vitals: dict[str, Range]
    drugs: tuple[str, ...]
    care: str
    risks: tuple[str, ...]
    complications: tuple[str, ...]

    @property
    def definition(self) -> str:
        """Key of the definition."""
        return f"definition of {self.name}"


def _range(text: str) -> Range:
    low, _, high = text.partition("-")
    return float(low), float(high or low)


def _whole(text: str) -> tuple[int, int]:
    low, high = _range(text)
    return int(low), int(high)


def _rows(text: str) -> list[tuple[str, list[str]]]:
    """(name, other columns) of each line `name = a | b | c`."""
    pairs = (line.split(" = ", 1) for line in text.strip().splitlines())
    return [(name, [column.strip() for column in rest.split("|")]) for name, rest in pairs]


def key(english: str) -> str:
    """The name of a phrase: its English without article or plural sign, with the first of its sides."""
    return re.sub(r"\{(.*?)/.*?\}", r"\1", re.sub(r"^(an? |\+)", "", english))


@cache
def drugs() -> dict[str, Drug]:
    """Every drug by its English name."""
    table = {}
    for name, (_, doses, use, days, kind) in _rows(_DRUGS):
        frequency, route = use.split()
        table[name] = Drug(
            doses=tuple(doses.split(", ")),
            frequency=frequency,
            route=route,
            days=_whole(days) if days else None,
            kind=kind,
        )
    return table


@cache
def labs() -> dict[str, Lab]:
    """Every laboratory test by its short name."""
    return {
        name: Lab(unit=unit, normal=_range(normal), decimals=int(decimals))
        for name, (_, _, unit, normal, decimals) in _rows(_LABS)
    }


def _blocks() -> list[tuple[str, dict[str, str]]]:
    blocks = (lines_of(block) for block in DISEASES.strip().split("\n\n"))
    return [(head, {line[0]: line[2:] for line in lines}) for head, *lines in blocks]


@cache
def diseases() -> tuple[Disease, ...]:
    """Every disease, in the order of the table."""
    table = []
    for head, lines in _blocks():
        organ, specialty, ages, women, onset = lines["@"].split(" | ")
        span, unit = onset.split()
        table.append(
            Disease(
                name=key(head.split(" | ")[0]),
                organ=organ,
                specialty=specialty,
                ages=_whole(ages),
                women=float(women),
                onset=_whole(span),
                onset_unit=unit,
                symptoms=tuple(lines["s"].split("; ")),
                signs=tuple(lines["e"].split("; ")),
                tests=tuple((test, shown) for test, shown in (t.split(" > ") for t in lines["t"].split("; "))),
                labs={name: _range(span) for name, span in (lab.split() for lab in lines["l"].split("; "))},
                vitals={vital[0]: _range(vital[1:]) for vital in lines["v"].split()},
                drugs=tuple(lines["d"].split("; ")),
                care=lines["p"],
                risks=tuple(lines["r"].split("; ")),
                complications=tuple(lines["c"].split("; ")),
            )
        )
    return tuple(table)


@cache
def by_name() -> dict[str, Disease]:
    """Every disease by its name."""
    return {disease.name: disease for disease in diseases()}


@cache
def names() -> dict[str, tuple[str, str]]:
    """The English (with article) and the French (with gender) of every phrase, by its key."""
    table = {}
    for entry in re.split(r"[;\n]+", LEXICON.strip()):
        english, french = entry.strip().split(" = ")
        table[key(english)] = (english, french)
    for head, lines in _blocks():
        english, french = head.split(" | ")
        table[key(english)] = (english, french)
        english, french = lines["="].split(" | ")
        table[f"definition of {key(head.split(' | ')[0])}"] = (english, french)
    for name, (french, *_) in _rows(_DRUGS):
        table[name] = (name, french)
    for name, (english, french, *_) in _rows(_LABS):
        table[name] = (english, french)
    return table


@cache
def differentials(name: str) -> tuple[str, ...]:
    """Up to four differential diagnoses: diseases that share rare symptoms or the organ."""
    count = Counter(mark for disease in diseases() for mark in (*disease.symptoms, disease.organ))
    mine = by_name()[name]

    def likeness(other: Disease) -> float:
        theirs = (*other.symptoms, other.organ)
        shared = sum(1 / count[mark] for mark in (*mine.symptoms, mine.organ) if mark in theirs)
        return shared + 0.1 * (other.specialty == mine.specialty)

    others = sorted((d for d in diseases() if d.name != name), key=likeness, reverse=True)
    return tuple(d.name for d in others[:4] if likeness(d) >= 0.25)

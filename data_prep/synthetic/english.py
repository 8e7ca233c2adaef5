"""English: articles, numbers and sentence templates."""

from __future__ import annotations

from typing import Any

from data_prep.synthetic.grammar import Noun, Rand, Section, lines_of, pick

COLON = ":"
FEBRILE = ("afebrile", "febrile")
CONJUNCTIONS = {"": " and ", "or": " or "}
_COUNT = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_UNITS = {"h": "hour", "d": "day", "w": "week", "m": "month", "y": "year"}
FREQUENCY = {
    "od": "once daily",
    "bd": "twice daily",
    "tds": "three times daily",
    "qds": "four times daily",
    "q4h": "every four hours",
    "wk": "once weekly",
    "q2w": "every two weeks",
    "q3w": "every three weeks",
    "q4w": "every four weeks",
    "q8w": "every eight weeks",
    "q6m": "every six months",
    "stat": "as a single dose",
    "cont": "by continuous infusion",
    "prn": "as needed",
    "nocte": "at bedtime",
}
ROUTE = {
    "po": "orally",
    "iv": "intravenously",
    "sc": "subcutaneously",
    "im": "intramuscularly",
    "inh": "by inhalation",
    "eye": "into the affected eye",
    "top": "applied to the skin",
}
_JOBS = (
    "teacher",
    "nurse",
    "farmer",
    "accountant",
    "electrician",
    "cook",
    "bus driver",
    "office worker",
    "builder",
    "musician",
    "lawyer",
    "mechanic",
    "librarian",
    "engineer",
    "shop assistant",
    "gardener",
    "architect",
    "hairdresser",
)


def article(text: str) -> str:
    """`a` or `an`, by the sound that a word or a number in digits begins with."""
    return "an" if text[:1] in "aeiou8" or (text[:2] in ("11", "18") and not text[2:3].isdigit()) else "a"


def forms(text: str, _: str) -> Noun:
    """The forms of a noun phrase written as in the lexicon."""
    plural = text.startswith("+")
    bare = text.removeprefix("+")
    np = bare
    for prefix in ("a ", "an "):
        if text.startswith(prefix):
            bare = text.removeprefix(prefix)
    return {
        "bare": bare,
        "np": np,
        "the": f"the {bare}",
        "subject": bare if np == bare and not plural else f"the {bare}",
        "or": bare,
        "is": "are" if plural else "is",
        "was": "were" if plural else "was",
        "s": "" if plural else "s",
    }


def measure(value: float, decimals: int, unit: str = "") -> str:
    """'13.2 g/dL'."""
    return f"{value:.{decimals}f}{'' if unit in ('', '%') else ' '}{unit}"


def duration(count: int, unit: str) -> str:
    """'three days'."""
    word = _COUNT[count] if count < len(_COUNT) else str(count)
    return f"{word} {_UNITS[unit]}{'s' * (count > 1)}"


def dose(text: str) -> str:
    return text


def lab(noun: Noun, value: str, level: int) -> str:
    """'a raised sodium of 150 mmol/L'; level is -1 below, 0 within, 1 above the normal range."""
    if level == 0:
        return f"{noun['np']} of {value}"
    return f"a {'raised' if level > 0 else 'low'} {noun['bare']} of {value}"


def treated(illness: Noun, drug: Noun) -> str:
    return f"{illness['np']} treated with {drug['bare']}"


def course(days: str) -> str:
    return f" for {days}"


def person(*, age: int, female: bool, onset: str, rand: Rand) -> dict[str, Any]:
    """Words that depend on who the patient is."""
    job = pick(_JOBS, rand)
    job = "student" if age < 22 else f"retired {job}" if age > 66 else job
    spaced = onset.rstrip("s").replace(" ", "-")
    return {
        "man": "woman" if female else "man",
        "he": "she" if female else "he",
        "He": "She" if female else "He",
        "his": "her" if female else "his",
        "His": "Her" if female else "His",
        "him": "her" if female else "him",
        "sex": "female" if female else "male",
        "a_age": f"{article(str(age))} {age}",
        "a_job": f"{article(job)} {job}",
        "worked": f"worked as {article(job)} {job}" if 22 <= age <= 66 else f"was {article(job)} {job}",
        "a_onset": f"{article(spaced)} {spaced}",
        "title": ("Mrs " if female else "Mr ") + chr(65 + int(rand() * 26)) + ".",
    }


PRESENTATION = Section("""
## 100 ward
{a_age}-year-old {man} [presented to|was brought to|attended|came to] the emergency department with {a_onset}
    history of {sx.np}.
{a_age}-year-old {man}[, {a_job},|] was admitted [to the {specialty.bare} ward |]with {sx.np} [that had begun|which
    had started] {onset} earlier.
{title}, {a_age}-year-old {man}, was [admitted|referred to hospital] because of {sx1.np}, followed by {rest.np},
    over {onset}.
[We report|This report describes|We describe] {a_age}-year-old {man} who was admitted with {sx.np} of {onset}' duration.
{onset} before admission, {a_age}-year-old {man} developed {sx1.np}, soon accompanied by {rest.np}.
The patient, {a_age}-year-old {man}[ who {worked}|], [sought|asked for] medical attention for {sx.np} lasting {onset}.
## 100 clinic
{a_age}-year-old {man} was referred to the {specialty.bare} clinic with {a_onset} history of {sx.np}.
{title}, {a_age}-year-old {man}, [consulted|was seen by] {his} family doctor for {sx1.np}. Over the past {onset},
    {he} had also noticed {rest.np}.
{a_age}-year-old {man}[, {a_job},|] [attended|came to] the outpatient clinic complaining of {sx.np} for {onset}.
For {onset}, {a_age}-year-old {man} had been [troubled|bothered] by {sx.np}[ before seeking advice|].
[We report|This report describes] {a_age}-year-old {man} who [presented with|was investigated for] {sx.np} over {onset}.
##~ 55
{He} [denied|did not report|had no] {neg.or}.
There was no [complaint|report] of {neg.or}.
[On direct questioning, |]{he} reported no {neg.or}.
##~ 40
The {sx1.bare} {sx1.was} [the most troublesome complaint|what worried {him} most|the first complaint|the main reason
    for the visit].
The {sx1.bare} {sx1.was} [getting worse|becoming more severe|interfering with daily life|not relieved by rest].
##~ 25
{He} had [tried|taken] [over-the-counter remedies|paracetamol at home|herbal tea and rest] [without benefit|with
    little effect].
[A neighbour|A relative|A colleague|{His} partner] had [urged|advised] {him} to seek help.
""")

HISTORY = Section("""
## 100 pmh
{His} past medical history included {pmh}.
{He} was known to have {pmh}.
Past history was notable for {pmh}.
[The medical record mentioned|The family doctor's letter listed] {pmh}.
## 100 -pmh
{He} had no [significant|relevant|notable] past medical history[ and took no regular medication|].
{His} past medical history was [unremarkable|unremarkable, and {he} took no medicines].
{He} had previously been [well|in good health].
## 85
Risk factors included {risks.np}.
[Relevant risk factors included|The history revealed|Further questioning revealed] {risks.np}.
{He} had at least one [recognised |]risk factor: {risk1.np}.
Of note, the history was positive for {risks.np}.
##~ 35
{He} [lived|was living] [alone|with {his} partner|with {his} family|independently] and {worked}.
##~ 30
{He} had no known drug allergies.
There was no history of allergy[ to medicines|].
{He} reported [a rash with|mild intolerance to] [sulfonamides|codeine|latex|iodinated contrast].
##~ 25
{He} drank [no alcohol|alcohol only occasionally|a glass of wine a day].
The family history was [unremarkable|non-contributory].
""")

EXAM = Section("""
## 100
On examination, {he} was [alert|alert and oriented|uncomfortable|tired but cooperative|in no immediate danger].
[Physical examination|Clinical examination] [was performed on arrival|was carried out without delay].
On arrival {he} looked [unwell|tired|pale and anxious|reasonably well].
##~ 90
Temperature was {temp} °C, heart rate {hr} beats per minute, blood pressure {sbp}/{dbp} mmHg, respiratory rate {rr}
    breaths per minute and oxygen saturation {spo2}% on room air.
Vital signs were: blood pressure {sbp}/{dbp} mmHg, pulse {hr}/min, temperature {temp} °C, oxygen saturation {spo2}%.
{He} had a temperature of {temp} °C, a pulse of {hr} per minute and a blood pressure of {sbp}/{dbp} mmHg. [Oxygen
    saturation was {spo2}%|The respiratory rate was {rr} per minute].
Heart rate was {hr}/min, blood pressure {sbp}/{dbp} mmHg and respiratory rate {rr}/min; {he} was {febrile} at {temp} °C.
## 100
Examination [revealed|showed|was notable for|disclosed] {signs.np}.
[There was clear evidence of|The examiner noted|The main findings were|We found] {signs.np}.
[The most striking finding|The key finding] was {sign1.np}.
##~ 50
The rest of the examination was [normal|unremarkable|without abnormality].
[No other abnormality was found|There were no other findings].
{His} body mass index was {bmi} kg/m2.
""")

LABS = Section("""
## 100
[Blood tests|Laboratory tests|Laboratory investigations|Initial bloods] [showed|revealed|demonstrated] {labs}.
Laboratory results included {labs}.
The [blood results|laboratory findings] were [significant|notable] for {labs}.
## 55
There was also {normlabs}.
The remaining results, including {normlabs}, were [unremarkable|within normal limits].
[Other results included|In addition, there was] {normlabs}.
""")

IMAGING = Section("""
## 100
{test.subject} [showed|revealed|demonstrated|disclosed] {found.np}.
{test.np} {test.was} [performed|obtained|requested] and [showed|revealed] {found.np}.
[Given these findings|To clarify the cause|On the same day], {test.np} {test.was} [performed|arranged], which
    [showed|revealed|demonstrated] {found.np}.
## 75
{test2.subject} [showed|revealed|demonstrated] {found2.np}.
[Subsequently|The next day|In addition], {test2.np} [showed|revealed|identified] {found2.np}.
""")

DIAGNOSIS = Section("""
## 100
[The patient was diagnosed with|A diagnosis was made of|These findings led to a diagnosis of|The final diagnosis
    was] {dx.bare}.
[The clinical picture|The combination of {sx1.bare} and {sign1.bare}] [was consistent with|pointed to|was typical
    of|confirmed] {dx.bare}.
[A diagnosis of|The diagnosis of] {dx.bare} was [made|confirmed|established|retained][ by the {specialty.bare} team|].
{dx.bare} was diagnosed[ on the basis of the {test.bare}|].
## 60 ddx
{ddx.bare} [was considered but|had been considered initially but|was thought unlikely and] [excluded|ruled out][ by
    the results above| on clinical grounds|].
The differential diagnosis included {ddxs.bare}, [but the findings argued against {ddx.bare}|which were excluded in
    turn].
[In the absence of {ddxsx.bare}|Because there was no {ddxsx.bare}], {ddx.bare} was [judged unlikely|set aside].
## 30
The [disorder|condition] was explained to the patient as {definition.np}.
{dx.bare} is {definition.np}.
""")

TREATMENT = Section("""
## 100
{He} was [started on|given|treated with|prescribed] {drug.bare} {dose}{for}.
Treatment with {drug.bare} {dose} was [given|prescribed|planned]{for}.
[First-line treatment|Initial treatment] consisted of {drug.bare} {dose}{for}.
[Management|Treatment] began with {drug.bare}, {kind.np}, at {dose}{for}.
## 75 drug2
{drug2.bare} {dose2} was [added|given as well|also prescribed]{for2}.
[In addition|Alongside this], {he} received {drug2.bare}, {kind2.np}, {dose2}{for2}.
[This was combined with|This was followed by] {drug2.bare} {dose2}{for2}.
## 65 care
[Supportive measures included|Further management included|The plan also included] {care.np}.
The team also [recommended|arranged|proposed] {care.np}.
##~ 30 pmh
{His} usual treatment was continued[ unchanged|].
##~ 30
The [benefits and risks|possible side effects] of {drug.bare} were [discussed|explained].
""")

COURSE = Section("""
## 100 event
[The course was complicated by|On day {eventday}, {he} developed|Recovery was delayed by] {event.np}[, which was
    managed by the {specialty.bare} team|, which required closer monitoring|].
## 70 -event
[The course|Recovery|Progress] was [uneventful|uncomplicated|favourable|steady].
[The {sx1.bare} improved|The {sx1.bare} settled|The symptoms eased] within {soon}[ of starting {drug.bare}|].
The response to {drug.bare} was [good|rapid|satisfactory|excellent], with [resolution|improvement] of the {sx1.bare}.
## 85 ward
{He} was discharged [home |]on day {los}[ with written advice| in good condition|].
After {los} days in hospital {he} was [discharged|able to go home].
{He} [went home|was discharged] after {los} days, with [a review|follow-up|an appointment] planned in the
    {specialty.bare} clinic in {fu}.
## 60 home
Treatment with {home.bare} was [continued|to be continued][ in the long term|].
{He} [remained on|was asked to continue] {home.bare}.
## 80
At review {fu} later, {he} [was free of symptoms|was much better|reported clear improvement|had returned to work and
    daily activities|still had mild {rest1.bare}].
[At the follow-up visit|When seen again] {fu} later, the {sx1.bare} had [resolved|almost disappeared|clearly improved].
{fu} later, [repeat {test.bare}|repeat blood testing] showed [improvement|a favourable trend].
## 45
{He} was [told|advised] to seek help if {warn.or} occurred.
The patient was [warned about the risk of|monitored for] {comps.np}.
[Possible complications|Complications to watch for], including {comps.np}, were discussed.
##~ 35
[Advice|Counselling] was given [about|regarding] {risk1.bare}.
""")

CASE = {
    "presentation": PRESENTATION,
    "history": HISTORY,
    "exam": EXAM,
    "labs": LABS,
    "imaging": IMAGING,
    "diagnosis": DIAGNOSIS,
    "treatment": TREATMENT,
    "course": COURSE,
}

NOTE_TITLES = ("Discharge summary", "Discharge letter", "Clinical summary", "Summary of care", "Case note")
NOTE = (
    ("Patient", Section("## 100\n{sex}, {age} years[, {a_job}|].\n{age}-year-old {man}.\n{title}, {age} years old.")),
    (
        "[Reason for admission|Presenting complaint|Reason for referral]",
        Section("""
## 100
{sx.np} for {onset}.
{sx1.np}, then {rest.np}. Onset {onset} ago.
{onset} of {sx.bare}.
## 40
No {neg.or}.
"""),
    ),
    (
        "[Background|Past history|Medical history]",
        Section("""
## 100 pmh
{pmh}.
## 100 -pmh
No significant history.
Nil of note.
## 85
Risk factors: {risks.bare}.
"""),
    ),
    (
        "[Examination|On examination|Clinical findings]",
        Section("""
## 95
T {temp} °C, HR {hr}/min, BP {sbp}/{dbp} mmHg, RR {rr}/min, SpO2 {spo2}%.
BP {sbp}/{dbp} mmHg, pulse {hr}/min, temperature {temp} °C, saturation {spo2}%.
## 100
{signs.np}.
Findings: {signs.bare}.
"""),
    ),
    (
        "[Investigations|Results|Tests]",
        Section("""
## 100
Bloods: {labs}.
Laboratory: {labs}.
## 100
{test.bare}: {found.bare}.
## 70
{test2.bare}: {found2.bare}.
"""),
    ),
    (
        "[Diagnosis|Main diagnosis|Principal diagnosis]",
        Section("## 100\n{dx.bare}.\n{dx.bare}[, confirmed by {test.np}|]."),
    ),
    (
        "[Treatment|Management|Treatment given]",
        Section("""
## 100
{drug.bare} {dose}{for}.
Started {drug.bare} {dose}{for}.
## 75 drug2
{drug2.bare} {dose2}{for2}.
Also {drug2.bare} {dose2}{for2}.
## 65 care
{care.bare}.
"""),
    ),
    (
        "[Progress|Hospital course|Course]",
        Section("""
## 100 event
Complicated by {event.np} on day {eventday}.
Developed {event.np}, now resolved.
## 100 -event
Good response to {drug.bare}.
[Uneventful|Uncomplicated]. The {sx1.bare} [improved|settled].
## 50 ward
Length of stay: {los} days.
"""),
    ),
    (
        "[Follow-up|Plan|Recommendations]",
        Section("""
## 100
[Review|Appointment] in the {specialty.bare} clinic in {fu}.
[Family doctor|{specialty.bare}] review in {fu}.
## 60 home
Continue {home.bare}.
{home.bare} to be continued.
## 60
Return in case of {warn.or}.
Watch for {comps.np}.
## 30
Advice given about {risk1.bare}.
"""),
    ),
)

QA_TITLES = (
    "Questions and answers about {dx.bare}",
    "{dx.bare}: common questions",
    "Understanding {dx.bare}",
    "A short guide to {dx.bare}",
    "Frequently asked questions: {dx.bare}",
)
QA_MARKS = (("Q: ", "A: "), ("Question: ", "Answer: "), ("", ""), ("", ""))
QA = tuple(
    Section(f"## 100{' ddxs' * ('{ddxs' in text)}\n{text}")
    for text in lines_of("""
[What is {dx.bare}?|How is {dx.bare} defined?] // {dx.bare} is {definition.np}. [It mainly affects {organ.the}|The
    organ concerned is {organ.the}|Patients are usually seen in {specialty.bare}].
[Which organ does {dx.bare} affect?|What part of the body is involved in {dx.bare}?] // It affects {organ.the}. [The
    specialty in charge is {specialty.bare}|Patients are usually seen in {specialty.bare}].
[What are the symptoms of {dx.bare}?|How does {dx.bare} present?|Which symptoms suggest {dx.bare}?] // [Common
    symptoms are|Patients often report|Typical complaints are|The usual symptoms are] {allsx.bare}. [They usually
    develop over {onset}|Not every patient has all of them|The {sx1.bare} often appear{sx1.s} first].
[What does the doctor find on examination?|Which signs may be found in {dx.bare}?] // [Examination may show|Typical
    signs are|Findings include] {allsigns.np}. [{sign1.bare} {sign1.is} especially suggestive|Signs may be absent
    early on].
[Which tests are useful?|How is {dx.bare} diagnosed?|How is the diagnosis of {dx.bare} confirmed?] // {test.subject}
    [may show|typically show{test.s}|can reveal] {found.np}. [Blood tests may show, for example,
    {labs}|{test2.subject} may show {found2.np}].
[How is {dx.bare} treated?|What is the treatment of {dx.bare}?|Which drugs are used?] // [Treatment is based on|The
    main drugs are|Doctors usually prescribe] {alldrugs.bare}. [A usual dose of {drug.bare} is {dose}|{drug.bare} is
    {kind.np}, given as {dose}].
[What kind of drug is {drug.bare}?|What is {drug.bare}?|Why is {drug.bare} prescribed?] // {drug.bare} is {kind.np}.
    [In {dx.bare}|For this disease], the dose is often {dose}{for}.
[Is {drug.bare} enough on its own?|Is anything needed besides {drug.bare}?|What else can help?] // [Often not:
    treatment also involves|Care also includes|Doctors may add] {care.np}. [The plan is adapted to each patient|The
    choice depends on severity].
[Who is at risk?|What are the risk factors?|Who gets {dx.bare}?] // [Known risk factors are|The risk is higher
    with|Risk factors include] {allrisks.np}. [Most patients are between {young} and {old} years old|{risk1.bare}
    matter{risk1.s} most].
[What are the complications?|Can {dx.bare} be dangerous?|What can go wrong?] // [Possible complications are|Without
    treatment it may lead to|The main complications are] {allcomps.np}. [Early treatment lowers this risk|Regular
    follow-up helps to prevent them].
[What else could it be?|Which diseases resemble {dx.bare}?] // [Doctors may consider|The differential diagnosis
    includes|Similar symptoms occur in] {ddxs.bare}. [{test.subject} often settle{test.s} the question|{sign1.bare}
    point{sign1.s} to {dx.bare}].
[When should I seek help?|When is it urgent?] // Seek medical advice [without delay |promptly |]in case of
    {warn.or}. [A return of {sx1.np} should also be reported|This may announce {comps.np}].
[What follow-up is needed?|Will I need follow-up?] // [A visit in {fu} is usual|Most patients are reviewed after
    {fu}], [to check the effect of {drug.bare}|to look for {comps.np}].
""")
)

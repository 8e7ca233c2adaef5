"""French: gender, number, elision, and sentence templates."""

from __future__ import annotations

from typing import Any

from data_prep.synthetic.grammar import Noun, Rand, Section, lines_of, pick

COLON = " :"
FEBRILE = ("apyrétique", "fébrile")
CONJUNCTIONS = {"": " et ", "ni": ", ", "dou": " ou ", "dni": " ni "}
_COUNT = ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze"]
_UNITS = {"h": "heure", "d": "jour", "w": "semaine", "m": "mois", "y": "an"}
FREQUENCY = {
    "od": "une fois par jour",
    "bd": "deux fois par jour",
    "tds": "trois fois par jour",
    "qds": "quatre fois par jour",
    "q4h": "toutes les quatre heures",
    "wk": "une fois par semaine",
    "q2w": "toutes les deux semaines",
    "q3w": "toutes les trois semaines",
    "q4w": "toutes les quatre semaines",
    "q8w": "toutes les huit semaines",
    "q6m": "tous les six mois",
    "stat": "en dose unique",
    "cont": "en perfusion continue",
    "prn": "à la demande",
    "nocte": "au coucher",
}
ROUTE = {
    "po": "par voie orale",
    "iv": "par voie intraveineuse",
    "sc": "par voie sous-cutanée",
    "im": "par voie intramusculaire",
    "inh": "en inhalation",
    "eye": "dans l'œil atteint",
    "top": "en application locale",
}
_JOBS = (
    "enseignant/enseignante",
    "infirmier/infirmière",
    "agriculteur/agricultrice",
    "comptable/comptable",
    "cuisinier/cuisinière",
    "électricien/électricienne",
    "conducteur de bus/conductrice de bus",
    "employé de bureau/employée de bureau",
    "avocat/avocate",
    "maçon/maçonne",
    "musicien/musicienne",
    "mécanicien/mécanicienne",
    "bibliothécaire/bibliothécaire",
    "ingénieur/ingénieure",
    "vendeur/vendeuse",
    "jardinier/jardinière",
    "architecte/architecte",
    "coiffeur/coiffeuse",
)
_UNITS_OF_DOSE = (("micrograms", "microgrammes"), ("units", "unités"), ("IU", "UI"), ("drop", "goutte"))
_VOWELS = frozenset("aâàeéèêëiîïoôœuûüæhAEÉIOUH")
# words whose h forbids elision
_ASPIRATED = ("hernie", "hanche", "halo")


def elides(text: str) -> bool:
    """Whether `le`, `la` and `de` lose their vowel before this word."""
    return text[0] in _VOWELS and not text.startswith(_ASPIRATED)


def forms(text: str, key: str) -> Noun:
    """The forms of a noun phrase written as in the lexicon: gender and number, then the phrase."""
    gender, _, bare = text.partition(" ")
    if gender not in ("m", "f", "mp", "fp"):
        raise ValueError(f"'{key}': French '{text}' begins with '{gender}', expected m, f, mp or fp")
    plural, female, open_ = gender.endswith("p"), gender.startswith("f"), elides(bare)
    de = f"d'{bare}" if open_ else f"de {bare}"
    if plural:
        un, le, du, au = f"des {bare}", f"les {bare}", f"des {bare}", f"aux {bare}"
    else:
        un = f"{'une' if female else 'un'} {bare}"
        le = f"l'{bare}" if open_ else f"{'la' if female else 'le'} {bare}"
        du = f"de {le}" if open_ or female else f"du {bare}"
        au = f"à {le}" if open_ or female else f"au {bare}"
    return {
        "bare": bare,
        "un": un,
        "le": le,
        "de": de,
        "dun": de if plural else f"d'{un}",
        "du": du,
        "au": au,
        "ni": f"ni {bare}",
        "dou": de,
        "dni": de,
        "e": "e" * female + "s" * plural,
        "bas": "bas" + "se" * female + "s" * (plural and female),
        "a": "ont" if plural else "a",
        "avait": "avaient" if plural else "avait",
        "est": "sont" if plural else "est",
        "était": "étaient" if plural else "était",
        "ait": "aient" if plural else "ait",
        "ent": "ent" if plural else "e",
        "peut": "peuvent" if plural else "peut",
    }


def measure(value: float, decimals: int, unit: str = "") -> str:
    """'13,2 g/dL'."""
    return f"{value:.{decimals}f}{' ' if unit else ''}{unit.replace('IU', 'UI')}".replace(".", ",")


def duration(count: int, unit: str) -> str:
    """'trois jours'."""
    word = _COUNT[count] if count < len(_COUNT) else str(count)
    if unit in "hw" and count == 1:
        word = "une"
    return f"{word} {_UNITS[unit]}{'s' * (count > 1 and unit != 'm')}"


def dose(text: str) -> str:
    text = text.replace(".", ",")
    for english, french in _UNITS_OF_DOSE:
        text = text.replace(english, french)
    return text


def lab(noun: Noun, value: str, level: int) -> str:
    """'une natrémie élevée à 150 mmol/L'; level is -1 below, 0 inside, 1 above the normal range."""
    word = f" élevé{noun['e']}" if level > 0 else f" {noun['bas']}" if level < 0 else ""
    return f"{noun['un']}{word} à {value}"


def treated(illness: Noun, drug: Noun) -> str:
    return f"{illness['un']} traité{illness['e']} par {drug['bare']}"


def course(days: str) -> str:
    return f" pendant {days}"


def person(*, age: int, female: bool, onset: str, rand: Rand) -> dict[str, Any]:
    """Words that depend on who the patient is."""
    job = pick(_JOBS, rand).split("/")[female]
    job = ("étudiante" if female else "étudiant") if age < 22 else f"{job} à la retraite" if age > 66 else job
    return {
        "femme": "femme" if female else "homme",
        "une_femme": "une femme" if female else "un homme",
        "patiente": "patiente" if female else "patient",
        "la_patiente": "la patiente" if female else "le patient",
        "d_une_femme": "d'une femme" if female else "d'un homme",
        "une_patiente": "une patiente" if female else "un patient",
        "à_la_patiente": "à la patiente" if female else "au patient",
        "il": "elle" if female else "il",
        "e": "e" if female else "",
        "if": "ve" if female else "f",
        "lui": "elle" if female else "lui",
        "sexe": "féminin" if female else "masculin",
        "job": job,
        "travaillait": f"travaillait comme {job}" if 22 <= age <= 66 else f"était {job}",
        "Mme": ("Mme " if female else "M. ") + chr(65 + int(rand() * 26)) + ".",
    }


PRESENTATION = Section("""
## 100 ward
{une_patiente} de {age} ans [s'est présenté{e}|a été amené{e}|a été admis{e}] aux urgences pour {sx.un}, depuis {onset}.
{une_femme} de {age} ans[, {job},|] a été hospitalisé{e} [en {specialty.bare} |]pour {sx.un} évoluant depuis {onset}.
{Mme}, âgé{e} de {age} ans, [a été adressé{e} à l'hôpital|a consulté en urgence] en raison {sx1.dun}, suivi{sx1.e}
    {rest.dun}.
[Nous rapportons|Nous décrivons] le cas {d_une_femme} de {age} ans, admis{e} pour {sx.un} depuis {onset}.
{onset} avant son admission, {une_patiente} de {age} ans a présenté {sx1.un}, puis {rest.un}.
{une_patiente} de {age} ans[, {job},|] est admis{e} [en {specialty.bare}|à l'hôpital] : {il} se plaint depuis
    {onset} {sx.de}.
## 100 clinic
{une_patiente} de {age} ans a été adressé{e} en consultation {specialty.de} pour {sx.un} depuis {onset}.
{Mme}, {age} ans[, {job},|] a consulté son médecin traitant pour {sx1.un}. Depuis {onset}, {il} signalait également
    {rest.un}.
Depuis {onset}, {une_femme} de {age} ans se plaignait {sx.de}[ sans avoir consulté|].
[Nous rapportons|Nous décrivons] le cas {d_une_femme} de {age} ans[, {job},|] exploré{e} pour {sx.un} évoluant
    depuis {onset}.
{une_patiente} de {age} ans, gêné{e} depuis {onset} par {sx.un}, [est venu{e} en consultation|a demandé un avis
    spécialisé].
##~ 55
{il} ne [rapportait|signalait|décrivait] {neg.ni}.
L'interrogatoire ne [retrouvait|notait] {neg.ni}.
On ne notait {neg.ni}.
##~ 40
{sx1.le} {sx1.était} [au premier plan|la principale source de gêne|à l'origine de la consultation].
{sx1.le} {sx1.avait} débuté en premier[ et s'aggrav{sx1.ait}|].
{il} était [surtout|particulièrement] gêné{e} par {sx1.le}.
##~ 25
{il} avait essayé [du paracétamol|une automédication|des tisanes] sans [amélioration|grand effet|bénéfice net].
[Son entourage|Une voisine|Un collègue] l'avait [encouragé{e}|incité{e}] à consulter.
""")

HISTORY = Section("""
## 100 pmh
Ses antécédents [comprenaient|comportaient] {pmh}.
[On relevait dans ses antécédents|Parmi ses antécédents, on notait|Le dossier mentionnait] {pmh}.
{il} avait pour antécédents {pmh}.
## 100 -pmh
{il} n'avait aucun antécédent [notable|particulier|médical connu][ et ne prenait aucun traitement|].
Ses antécédents étaient [sans particularité|sans lien avec le motif de consultation].
{il} était jusque-là en bonne santé.
## 85
Les facteurs de risque [comprenaient|incluaient] {risks.un}.
[L'interrogatoire retrouvait|On retrouvait|On notait] dans le contexte {risks.un}.
Un facteur de risque au moins était [présent|identifié] : {risk1.un}.
[Le contexte était marqué par|À noter également] {risks.un}.
##~ 35
{il} vivait [seul{e}|en couple|en famille|avec un proche][ et {travaillait}|].
##~ 30
{il} n'avait pas d'allergie [connue|médicamenteuse connue].
On ne relevait aucune allergie[ aux médicaments|].
{il} signalait une [éruption|mauvaise tolérance] sous [sulfamides|codéine|produit de contraste iodé].
##~ 25
{il} ne [consommait pas d'alcool|consommait de l'alcool qu'occasionnellement].
Les antécédents familiaux étaient [sans particularité|non contributifs].
""")

EXAM = Section("""
## 100
À l'examen, {il} était [conscient{e} et orienté{e}|fatigué{e} mais coopérant{e}|calme|peu communicati{if}].
[L'examen clinique|L'examen physique] a été réalisé [à l'arrivée|sans délai].
À l'arrivée, l'état général était [conservé|altéré|moyen].
##~ 90
La température était de {temp} °C, la fréquence cardiaque de {hr} battements par minute, la pression artérielle de
    {sbp}/{dbp} mmHg, la fréquence respiratoire de {rr} cycles par minute et la saturation en oxygène de {spo2} % en
    air ambiant.
Les constantes étaient les suivantes : pression artérielle {sbp}/{dbp} mmHg, pouls {hr}/min, température {temp} °C,
    saturation {spo2} %.
{il} avait une température de {temp} °C, un pouls à {hr} par minute et une pression artérielle à {sbp}/{dbp} mmHg.
    [La saturation était de {spo2} %|La fréquence respiratoire était de {rr} par minute].
La fréquence cardiaque était à {hr}/min, la pression artérielle à {sbp}/{dbp} mmHg et la fréquence respiratoire à
    {rr}/min ; {il} était {febrile}, à {temp} °C.
## 100
L'examen [retrouvait|montrait|mettait en évidence|révélait] {signs.un}.
[On notait|On constatait|Il existait] {signs.un}.
On notait [avant tout|surtout] {sign1.un}.
Le tableau clinique était dominé par {sign1.un}.
##~ 50
Le reste de l'examen était [normal|sans particularité|sans anomalie].
[Aucune autre anomalie n'était notée|Il n'y avait pas d'autre anomalie].
L'indice de masse corporelle était de {bmi} kg/m2.
""")

LABS = Section("""
## 100
[Le bilan biologique|La biologie|Le bilan sanguin initial] [montrait|retrouvait|révélait] {labs}.
[Les examens biologiques|Les analyses] [montraient|retrouvaient] {labs}.
Sur le plan biologique, on notait {labs}.
## 55
Il existait par ailleurs {normlabs}.
Le reste du bilan, avec {normlabs}, était [normal|sans anomalie|sans particularité].
[On relevait aussi|Les autres résultats comportaient] {normlabs}.
""")

IMAGING = Section("""
## 100
{test.le} [montr{test.ait}|retrouv{test.ait}|révél{test.ait}] {found.un}.
{test.le} {test.a} [montré|révélé|retrouvé|mis en évidence] {found.un}.
[Devant ce tableau|Pour préciser la cause|Le jour même], {test.un} {test.a} été réalisé{test.e} et {test.a}
    [montré|révélé] {found.un}.
## 75
{test2.le} [montr{test2.ait}|retrouv{test2.ait}|objectiv{test2.ait}] {found2.un}.
[Dans un second temps|Le lendemain|En complément], {test2.le} {test2.a} [montré|retrouvé|confirmé] {found2.un}.
""")

DIAGNOSIS = Section("""
## 100
Le diagnostic {dx.de} a été [posé|retenu|établi|confirmé][ par l'équipe {specialty.de}|].
[L'ensemble du tableau|L'association {sx1.dun} et {sign1.dun}] [était en faveur|évoquait le diagnostic|était
    typique] {dx.dun}.
[Ces éléments|Ces résultats] ont conduit au diagnostic {dx.de}.
[Il s'agissait|Au total, il s'agissait] {dx.dun}.
Le diagnostic final était {dx.le}.
## 60 ddx
{ddx.le} {ddx.avait} été évoqué{ddx.e} [puis écarté{ddx.e}|mais jugé{ddx.e} peu probable|mais non retenu{ddx.e}].
Le diagnostic différentiel comprenait {ddxs.le}[, sans argument en leur faveur|].
En l'absence {ddxsx.de}, {ddx.le} {ddx.était} peu probable.
## 30
La maladie a été expliquée {à_la_patiente} de la façon suivante : {definition.un}.
{dx.le} {dx.est} {definition.un}.
""")

TREATMENT = Section("""
## 100
{il} a [été traité{e} par|reçu un traitement par|été mis{e} sous] {drug.bare}, {dose}{for}.
Un traitement par {drug.bare} ({dose}) a été [prescrit|instauré|administré]{for}.
Le traitement [initial|de première intention] reposait sur {drug.le}, {dose}{for}.
[La prise en charge|Le traitement] a débuté par {drug.le}, {kind.un}, à la dose de {dose}{for}.
## 75 drug2
{drug2.le} ({dose2}) {drug2.a} été ajouté{drug2.e}{for2}.
[En complément|De plus], {il} a reçu {drug2.du}, {kind2.un}, {dose2}{for2}.
On y a associé {drug2.le} {dose2}{for2}.
## 65 care
[Les autres mesures comportaient|La prise en charge comprenait aussi|Le programme de soins comportait également]
    {care.un}.
L'équipe a également [proposé|recommandé|organisé] {care.un}.
##~ 30 pmh
Son traitement habituel a été poursuivi[ sans modification|].
##~ 30
[Les bénéfices et les risques|Les effets indésirables possibles] {drug.du} ont été [expliqués|discutés].
""")

COURSE = Section("""
## 100 event
L'évolution a été [compliquée|marquée] par {event.un}[, pris{event.e} en charge par l'équipe {specialty.de}|,
    imposant une surveillance rapprochée|].
Au {eventday}e jour est survenu{event.e} {event.un}.
## 70 -event
[L'évolution|La suite|La convalescence] a été [favorable|simple|sans complication].
{sx1.le} {sx1.avait} [régressé|diminué] en {soon}[ sous {drug.bare}|].
La réponse {drug.au} a été [bonne|rapide|satisfaisante|excellente], avec [régression|amélioration] {sx1.du}.
## 85 ward
La sortie a été autorisée au {los}e jour[, avec des consignes écrites|].
Après {los} jours d'hospitalisation, {il} est [rentré{e} à domicile|retourné{e} chez {lui}].
{il} a quitté l'hôpital après {los} jours ; une [consultation|visite de contrôle] {specialty.de} était prévue dans {fu}.
## 60 home
Le traitement par {home.bare} a été poursuivi[ au long cours|].
{il} devait poursuivre {home.le}[ au long cours|].
## 80
[À la consultation de contrôle|Revu{e} en consultation] {fu} plus tard, {il} [ne se plaignait plus de rien|allait
    nettement mieux|avait repris ses activités|gardait {rest1.un} modéré{rest1.e}].
{fu} plus tard, {sx1.le} {sx1.avait} [disparu|presque disparu|nettement diminué].
{fu} plus tard, [{test.le} de contrôle montr{test.ait}|le bilan de contrôle montrait] une [amélioration|évolution
    favorable].
## 45
{il} devait reconsulter en cas {warn.dou}.
{la_patiente} a été [informé{e} du risque|surveillé{e} en raison du risque] {comps.de}.
[Les complications possibles|Les complications à surveiller], dont {comps.le}, ont été expliquées.
##~ 35
Des conseils ont été donnés [au sujet {risk1.du}|concernant {risk1.le}].
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

NOTE_TITLES = (
    "Compte rendu d'hospitalisation",
    "Lettre de sortie",
    "Synthèse clinique",
    "Compte rendu de prise en charge",
    "Note clinique",
)
NOTE = (
    ("Patient", Section("## 100\nSexe {sexe}, {age} ans[, {job}|].\n{femme} de {age} ans.\n{Mme}, {age} ans.")),
    (
        "[Motif d'admission|Motif|Motif de recours]",
        Section("""
## 100
{sx.bare} depuis {onset}.
{sx1.bare}, puis {rest.bare}. Début il y a {onset}.
{sx.bare} évoluant depuis {onset}.
## 40
Pas {neg.dni}.
"""),
    ),
    (
        "[Antécédents|Terrain|Antécédents médicaux]",
        Section("""
## 100 pmh
{pmh}.
## 100 -pmh
Pas d'antécédent notable.
Néant.
## 85
Facteurs de risque : {risks.bare}.
"""),
    ),
    (
        "[Examen clinique|Examen à l'entrée|Clinique]",
        Section("""
## 95
T {temp} °C, FC {hr}/min, PA {sbp}/{dbp} mmHg, FR {rr}/min, SpO2 {spo2} %.
PA {sbp}/{dbp} mmHg, pouls {hr}/min, température {temp} °C, saturation {spo2} %.
## 100
{signs.bare}.
Présence {signs.de}.
"""),
    ),
    (
        "[Examens complémentaires|Explorations|Résultats]",
        Section("""
## 100
Biologie : {labs}.
Bilan sanguin : {labs}.
## 100
{test.bare} : {found.bare}.
## 70
{test2.bare} : {found2.bare}.
"""),
    ),
    (
        "[Diagnostic|Diagnostic principal|Diagnostic retenu]",
        Section("## 100\n{dx.bare}.\n{dx.bare}[, confirmé{dx.e} par {test.le}|]."),
    ),
    (
        "[Traitement|Prise en charge|Traitement reçu]",
        Section("""
## 100
{drug.bare} {dose}{for}.
Mise en route d'un traitement par {drug.bare} : {dose}{for}.
## 75 drug2
{drug2.bare} {dose2}{for2}.
Ajout {drug2.de} {dose2}{for2}.
## 65 care
{care.bare}.
"""),
    ),
    (
        "[Évolution|Suites|Évolution dans le service]",
        Section("""
## 100 event
Survenue {event.dun} au {eventday}e jour.
Complication : {event.bare}, en cours de résolution.
## 100 -event
Bonne réponse {drug.au}.
[Évolution favorable|Suites simples]. [Amélioration|Régression] {sx1.du}.
## 50 ward
Durée de séjour : {los} jours.
"""),
    ),
    (
        "[Suivi|Suite à donner|Recommandations]",
        Section("""
## 100
[Consultation|Contrôle] {specialty.de} dans {fu}.
Revoir le médecin traitant dans {fu}.
## 60 home
Poursuivre {home.le}.
{home.bare} à poursuivre.
## 60
Reconsulter en cas {warn.dou}.
Surveiller le risque {comps.de}.
## 30
Conseils donnés au sujet {risk1.du}.
"""),
    ),
)

QA_TITLES = (
    "Questions et réponses sur {dx.le}",
    "{dx.le} : questions courantes",
    "Comprendre {dx.le}",
    "Petit guide {dx.du}",
    "Foire aux questions : {dx.le}",
)
QA_MARKS = (("Q : ", "R : "), ("Question : ", "Réponse : "), ("", ""), ("", ""))
QA = tuple(
    Section(f"## 100{' ddxs' * ('{ddxs' in text)}\n{text}")
    for text in lines_of("""
[Qu'est-ce que {dx.le} ?|Comment définir {dx.le} ?] // {dx.le} {dx.est} {definition.un}. [La maladie touche surtout
    {organ.le}|Les patients sont suivis en {specialty.bare}].
[Quel organe est touché par {dx.le} ?|Quelle partie du corps est atteinte ?] // La maladie touche {organ.le}. [La
    spécialité concernée est {specialty.le}|Le suivi se fait en {specialty.bare}].
[Quels sont les symptômes {dx.du} ?|Comment se manifeste {dx.le} ?|Quels symptômes font évoquer {dx.le} ?] // [Les
    symptômes habituels sont|Les patients signalent souvent|On observe le plus souvent] {allsx.un}. [L'installation
    se fait souvent en {onset}|Tous ne sont pas toujours présents|Souvent, {sx1.le} début{sx1.ent} en premier].
[Que trouve le médecin à l'examen ?|Quels signes peut-on trouver ?] // [L'examen peut montrer|Les signes typiques
    sont|On peut observer] {allsigns.un}. [{sign1.le} {sign1.est} un argument fort|Les signes peuvent manquer au
    début].
[Quels examens sont utiles ?|Comment fait-on le diagnostic {dx.de} ?|Comment confirmer le diagnostic {dx.de} ?] //
    {test.le} {test.peut} [montrer|révéler|mettre en évidence] {found.un}. [Le bilan sanguin peut montrer, par
    exemple, {labs}|{test2.le} {test2.peut} montrer {found2.un}].
[Comment traite-t-on {dx.le} ?|Quel est le traitement {dx.du} ?|Quels médicaments utilise-t-on ?] // [Le traitement
    repose sur|Les médicaments principaux sont|On prescrit habituellement] {alldrugs.le}. [La dose habituelle
    {drug.du} est : {dose}|{drug.le} {drug.est} {kind.un}, à la dose de {dose}].
[Quel type de médicament est {drug.le} ?|À quoi sert {drug.le} ?|Pourquoi prescrire {drug.du} ?] // {drug.le}
    {drug.est} {kind.un}. [Dans {dx.le}|Pour cette maladie], la dose est souvent la suivante : {dose}{for}.
[Comment compléter le traitement par {drug.bare} ?|Que peut-on ajouter {drug.au} ?|Quelles autres mesures sont
    utiles ?] // [La prise en charge comprend aussi|On y associe souvent|Les soins comportent également] {care.un}.
    [Le choix dépend de la gravité|La conduite est adaptée à chaque patient].
[Qui est à risque ?|Quels sont les facteurs de risque ?|Qui est touché par {dx.le} ?] // [Les facteurs de risque
    connus sont|Le risque augmente avec|Les principaux facteurs de risque sont] {allrisks.le}. [La plupart des
    patients ont entre {young} et {old} ans|Le plus important : {risk1.le}].
[Quelles sont les complications ?|La maladie peut-elle être grave ?|Quels sont les risques ?] // [Les complications
    possibles sont|Sans traitement, on peut observer|Les principales complications sont] {allcomps.un}. [Un
    traitement précoce réduit ce risque|Un suivi régulier en réduit la fréquence].
[À quoi peut-on penser d'autre ?|Quelles maladies ressemblent {dx.au} ?] // [On peut discuter|Le diagnostic
    différentiel comprend|Des symptômes proches se voient avec] {ddxs.le}. [{test.le} {test.peut}
    trancher|{sign1.le} {sign1.est} en faveur {dx.du}].
[Quand faut-il consulter ?|Quand est-ce urgent ?] // Il faut consulter [sans attendre |rapidement |]en cas
    {warn.dou}. [Le retour {sx1.du} doit aussi être signalé|Cela peut annoncer {comps.un}].
[Quel suivi prévoir ?|Faut-il un suivi ?] // [Une visite à {fu} est habituelle|La plupart des patients sont revus
    après {fu}], [pour juger de l'effet {drug.du}|pour rechercher {comps.un}].
""")
)

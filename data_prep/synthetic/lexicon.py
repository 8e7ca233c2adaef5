"""Bilingual noun phrases: `English = French`, entries separated by a semicolon or a line break.

English: `a ` or `an ` before a countable noun, `+` before a plural, nothing before a mass noun. French: m, f, mp or fp.
`{right/left}` is a side: a document takes the first or the second alternative throughout, in both languages.
"""

LEXICON = """
an adrenal gland = f glande surrénale; an aorta = f aorte; an appendix = m appendice; blood = m sang
bone marrow = f moelle osseuse; a brain = m cerveau; a breast = m sein; a colon = m côlon; a duodenum = m duodénum
a central nervous system = m système nerveux central; an endocrine pancreas = m pancréas endocrine; an eye = m œil
a gallbladder = f vésicule biliaire; a heart = m cœur; an immune system = m système immunitaire; a kidney = m rein
a joint = f articulation; a liver = m foie; a lung = m poumon; a lymphatic system = m système lymphatique
+meninges = fp méninges; a neuromuscular junction = f jonction neuromusculaire; an oesophagus = m œsophage
a pancreas = m pancréas; +peripheral nerves = mp nerfs périphériques; a pleura = f plèvre; a prostate = f prostate
a pulmonary artery = f artère pulmonaire; skin = f peau; a small bowel = m intestin grêle; a thyroid = f thyroïde
a temporal artery = f artère temporale; a urinary tract = m appareil urinaire; a venous system = m système veineux

cardiology = f cardiologie; dermatology = f dermatologie; emergency medicine = f médecine d'urgence
endocrinology = f endocrinologie; gastroenterology = f gastro-entérologie; general surgery = f chirurgie digestive
haematology = f hématologie; hepatology = f hépatologie; infectious diseases = f infectiologie
internal medicine = f médecine interne; nephrology = f néphrologie; neurology = f neurologie
neurosurgery = f neurochirurgie; oncology = f oncologie; ophthalmology = f ophtalmologie; psychiatry = f psychiatrie
respiratory medicine = f pneumologie; rheumatology = f rhumatologie; urology = f urologie
vascular medicine = f médecine vasculaire; vascular surgery = f chirurgie vasculaire

+abdominal cramps = fp crampes abdominales; abdominal distension = f distension abdominale
abdominal pain = f douleur abdominale; acid regurgitation = fp régurgitations acides
ankle swelling = m gonflement des chevilles; anxiety = f anxiété; back pain = f douleur dorsale
black stools = fp selles noires; ascending leg weakness = f faiblesse ascendante des jambes
bleeding gums = m saignement des gencives; a blistering rash = f éruption vésiculeuse; bloating = m ballonnement
bloody diarrhoea = f diarrhée sanglante; blurred vision = f vision floue; bone pain = fp douleurs osseuses
a breast lump = f masse du sein; breast pain = f douleur du sein; breathlessness = m essoufflement
burning skin pain = f douleur cutanée à type de brûlure; burning urination = fp brûlures mictionnelles
calf pain = f douleur du mollet; a change in bowel habit = m trouble récent du transit
chest tightness = f oppression thoracique; +chills = mp frissons
chest pain relieved by leaning forward = f douleur thoracique calmée par l'antéflexion
a chronic cough = f toux chronique; chronic diarrhoea = f diarrhée chronique; cold intolerance = f frilosité
confusion = f confusion; constipation = f constipation; crushing chest pain = f douleur thoracique constrictive
difficulty speaking = f difficulté à parler; difficulty swallowing = f gêne à la déglutition
double vision = f vision double; drooping eyelids = f chute des paupières; drowsiness = f somnolence
a dry cough = f toux sèche; déjà vu = f impression de déjà-vu; early waking = m réveil précoce
easy bruising = fp ecchymoses faciles; epigastric pain = f douleur épigastrique
epigastric pain relieved by food = f douleur épigastrique calmée par les repas; excessive thirst = f soif excessive
exertional breathlessness = m essoufflement à l'effort; an expanding rash = f éruption extensive
eye pain = f douleur oculaire; a facial droop = f asymétrie du visage; a facial rash = f éruption du visage
facial swelling = m gonflement du visage; fatigable weakness = f faiblesse musculaire à l'effort; fatigue = f fatigue
fever = f fièvre; flank pain = f douleur lombaire; frequent urination = fp mictions fréquentes
frothy urine = fp urines mousseuses; great toe pain = f douleur du gros orteil; haemoptysis = f hémoptysie
hair loss = f chute de cheveux; +halos around lights = mp halos autour des lumières; a headache = fp céphalées
heartburn = m pyrosis; heat intolerance = f thermophobie; hesitancy = f dysurie; a hoarse voice = f voix rauque
itching = m prurit; jaundice = m ictère; jaw claudication = f claudication de la mâchoire
joint pain = fp douleurs articulaires; joint redness = f rougeur articulaire
joint swelling = m gonflement articulaire; left arm pain = f douleur du bras gauche
left iliac fossa pain = f douleur de la fosse iliaque gauche; leg heaviness = f lourdeur de jambe
leg redness = f rougeur de la jambe; leg swelling = m gonflement de la jambe; leg warmth = f chaleur de la jambe
light-headedness = f sensation de malaise; limb numbness = m engourdissement des membres
lip swelling = m gonflement des lèvres; loss of appetite = f perte d'appétit; loss of awareness = f rupture de contact
loss of balance = f perte d'équilibre; loss of consciousness = f perte de connaissance
loss of interest = f perte d'intérêt; loss of smell = f perte de l'odorat; low mood = f tristesse de l'humeur
morning stiffness = f raideur matinale; +mouth ulcers = mp aphtes buccaux
mucus in the stools = fp glaires dans les selles; +muscle cramps = fp crampes musculaires
muscle pain = fp douleurs musculaires; +nail changes = fp anomalies des ongles; nausea = fp nausées
+night sweats = fp sueurs nocturnes; a nipple discharge = m écoulement mamelonnaire; nocturia = f nycturie
orthopnoea = f orthopnée; pain radiating to the groin = f douleur irradiant vers l'aine
+palpitations = fp palpitations; phonophobia = f phonophobie; photophobia = f photophobie
photosensitivity = f photosensibilité; pica = m pica; pleuritic chest pain = f douleur pleurale
poor concentration = mp troubles de la concentration; post-ictal confusion = f confusion après les crises
a productive cough = f toux productive; purulent sputum = f expectoration purulente; rectal bleeding = fp rectorragies
rectal urgency = fp envies impérieuses d'aller à la selle; +recurrent infections = fp infections à répétition
recurrent thrush = fp mycoses à répétition; a resting tremor = m tremblement de repos; restlessness = f agitation
{right/left} arm weakness = f faiblesse du bras {droit/gauche}
right iliac fossa pain = f douleur de la fosse iliaque droite
right upper quadrant pain = f douleur de l'hypocondre droit; salt craving = f envie de sel
+seizures = fp crises convulsives; scalp tenderness = f sensibilité du cuir chevelu
+scaly plaques = fp plaques squameuses; shoulder pain = f douleur de l'épaule; skin dimpling = f rétraction cutanée
slowness of movement = f lenteur des gestes; slurred speech = f élocution pâteuse
small handwriting = f écriture de petite taille; a sore throat = m mal de gorge; stiffness = f raideur
sweating = fp sueurs; +swollen neck glands = mp ganglions cervicaux gonflés; syncope = f syncope
tearing chest pain = f douleur thoracique déchirante; a temporal headache = fp céphalées temporales
terminal dribbling = fp gouttes retardataires; a throbbing headache = fp céphalées pulsatiles
a thunderclap headache = f céphalée en coup de tonnerre; tingling = mp fourmillements
tongue biting = f morsure de langue; tingling in the feet = mp fourmillements des pieds; a tremor = m tremblement
unsteadiness = f instabilité à la marche; urinary urgency = fp urgenturies
visible haematuria = f hématurie macroscopique; vomiting = mp vomissements
a weak urinary stream = f faiblesse du jet urinaire; weight gain = f prise de poids; weight loss = m amaigrissement
wheezing = fp sibilances; widespread hives = f urticaire généralisée
+zigzag visual lines = fp lignes visuelles en zigzag

abdominal obesity = f obésité abdominale; absent tendon reflexes = f abolition des réflexes ostéotendineux
absent breath sounds on the {right/left} = f abolition du murmure vésiculaire à {droite/gauche}
an absent {right/left} temporal pulse = f abolition du pouls temporal {droit/gauche}
acetone breath = f haleine cétonique; angular stomatitis = f perlèche; aphasia = f aphasie
+apical crackles = mp crépitants des sommets; ascites = f ascite; asterixis = m astérixis
athlete's foot = m intertrigo interorteils; axillary lymphadenopathy = fp adénopathies axillaires
a barrel chest = m thorax en tonneau; +bilateral basal crackles = mp crépitants des deux bases
blood on rectal examination = m saignement au toucher rectal; bone tenderness = f douleur osseuse à la palpation
+brisk reflexes = mp réflexes vifs
bronchial breathing at the {right/left} base = m souffle tubaire de la base {droite/gauche}
calf tenderness = f sensibilité du mollet à la palpation; cervical lymphadenopathy = fp adénopathies cervicales
+clear lung fields = f auscultation pulmonaire normale; cogwheel rigidity = f rigidité en roue dentée
+clustered vesicles in a single dermatome = fp vésicules en bouquet dans un dermatome
+cool extremities = fp extrémités froides; +dark palmar creases = mp plis palmaires pigmentés
+dark skin folds in the neck = m acanthosis nigricans du cou
deep sighing respiration = f respiration ample et profonde; dental erosion = fp érosions dentaires
a diffuse expiratory wheeze = mp sibilants expiratoires diffus; a diffuse goitre = m goitre diffus
diffuse hair thinning = f alopécie diffuse; +dilated superficial veins = f dilatation des veines superficielles
+dry mucous membranes = f sécheresse des muqueuses; dry skin = f peau sèche
dullness to percussion at the {right/left} base = f matité de la base {droite/gauche}
an early diastolic murmur = m souffle protodiastolique; epigastric tenderness = f sensibilité épigastrique
erythema migrans = m érythème migrant; an exudative tonsillitis = f angine à enduit blanchâtre
facial angioedema = m angio-œdème du visage; facial weakness = f paralysie faciale
fatigable ptosis = m ptosis variable à la fatigue; a fine tremor = m tremblement fin
finger clubbing = m hippocratisme digital
a firm mass in the {right/left} breast = f masse ferme du sein {droit/gauche}
a fixed mid-dilated pupil = f pupille aréactive en semi-mydriase; a fourth heart sound = m quatrième bruit du cœur
guarding in the left iliac fossa = f défense de la fosse iliaque gauche
guarding in the right iliac fossa = f défense de la fosse iliaque droite
guarding in the right upper quadrant = f défense de l'hypocondre droit; gum swelling = f hypertrophie gingivale
a hazy cornea = f cornée trouble; hepatomegaly = f hépatomégalie
a hot swollen {right/left} first toe = m gros orteil {droit/gauche} chaud et gonflé
hyperresonance on the {right/left} = m tympanisme à {droite/gauche}
inguinal lymphadenopathy = fp adénopathies inguinales; an irregularly irregular pulse = m pouls totalement irrégulier
+itchy blisters on the elbows = fp vésicules prurigineuses des coudes
a lateral tongue laceration = f plaie latérale de la langue
a left iliac fossa mass = f masse de la fosse iliaque gauche
left iliac fossa tenderness = f sensibilité de la fosse iliaque gauche; a malar rash = f éruption malaire
a monophonic wheeze on the {right/left} = m sibilant localisé à {droite/gauche}
nail pitting = fp dépressions ponctuées des ongles; neck stiffness = f raideur de la nuque
a new systolic murmur = m souffle systolique récent; nipple retraction = f rétraction du mamelon
+normal fundi = m fond d'œil normal; +normal heart sounds = mp bruits du cœur normaux
a normal neurological examination = m examen neurologique normal
+normal tendon reflexes = mp réflexes ostéotendineux normaux
pain on hip extension = f douleur à l'extension de la hanche; pallor = f pâleur; palmar erythema = m érythème palmaire
a palpable bladder = m globe vésical; a perianal fistula = f fistule anale
a pericardial friction rub = m frottement péricardique; periorbital oedema = m œdème périorbitaire
+petechiae = fp pétéchies; poor eye contact = m regard fuyant
pitting oedema of both legs = mp œdèmes des deux jambes prenant le godet; a positive Murphy sign = m signe de Murphy
a positive squeeze test = f douleur à la pression transverse des mains
postural hypotension = f hypotension orthostatique; prolonged expiration = m allongement de l'expiration
+protruding eyes = f exophtalmie; psychomotor slowing = m ralentissement psychomoteur; a puffy face = m visage bouffi
a purpuric rash = m purpura; a raised jugular venous pressure = f turgescence jugulaire
rebound tenderness = f douleur à la décompression; a red {right/left} eye = m œil {droit/gauche} rouge
reduced arm swing = f diminution du ballant des bras; +reduced bowel sounds = f diminution des bruits hydroaériques
reduced chest expansion on the {right/left} = f diminution de l'ampliation thoracique à {droite/gauche}
reduced vibration sense = f baisse de la sensibilité vibratoire
a relative afferent pupillary defect = m déficit pupillaire afférent relatif
+rheumatoid nodules = mp nodules rhumatoïdes; +{right/left} basal crackles = mp crépitants de la base {droite/gauche}
a {right/left} facial palsy = f paralysie faciale {droite/gauche}
a {right/left} hemiparesis = f hémiparésie {droite/gauche}
a right iliac fossa mass = f masse de la fosse iliaque droite
{right/left} renal angle tenderness = f sensibilité de la fosse lombaire {droite/gauche}
scalp scaling = fp squames du cuir chevelu; scleral icterus = m ictère conjonctival
+scratch marks = fp lésions de grattage; a sensory level = m niveau sensitif
shifting dullness = f matité déclive des flancs; a shuffling gait = f marche à petits pas
+silvery plaques on the elbows = fp plaques argentées des coudes; skin hyperpigmentation = f mélanodermie
skin hypersensitivity = f hypersensibilité cutanée
+slow relaxing reflexes = m ralentissement de la décontraction des réflexes
a smooth enlarged prostate = f prostate augmentée de volume et lisse; a soft abdomen = m abdomen souple
+spider naevi = mp angiomes stellaires; spinal tenderness = f douleur à la palpation du rachis
splenomegaly = f splénomégalie; +splinter haemorrhages = fp hémorragies en flammèches sous les ongles
+spoon-shaped nails = mp ongles en cuillère
a spreading erythema of the {right/left} leg = m placard érythémateux extensif de la jambe {droite/gauche}
supraclavicular lymphadenopathy = f adénopathie sus-claviculaire; suprapubic tenderness = f sensibilité sus-pubienne
symmetrical leg weakness = m déficit moteur symétrique des jambes; tearfulness = mp pleurs fréquents
symmetrical synovitis of the hands = fp synovites symétriques des mains
a tender {right/left} temporal artery = f artère temporale {droite/gauche} douloureuse
a third heart sound = m troisième bruit du cœur; a third nerve palsy = f paralysie du nerf oculomoteur
+tophi on the ears = mp tophus des oreilles
unequal blood pressure in the arms = f asymétrie tensionnelle aux deux bras
unilateral pitting oedema = m œdème unilatéral prenant le godet; an urticarial rash = f éruption urticarienne
use of accessory muscles = m tirage; a variable first heart sound = m premier bruit du cœur variable
warm moist skin = f peau chaude et moite; wasting = f fonte musculaire
weakness of neck flexion = m déficit de la flexion du cou

Borrelia serology = f sérologie de Borrelia; a CT aortogram = m angioscanner aortique
a CT pulmonary angiogram = m angioscanner thoracique; a CT urogram = m uroscanner; an HIV test = f sérologie VIH
PCR of vesicle fluid = f PCR sur liquide de vésicule; an abdominal CT scan = m scanner abdominal
an abdominal ultrasound = f échographie abdominale
an acetylcholine receptor antibody test = m dosage des anticorps anti-récepteur de l'acétylcholine
an adrenal CT scan = m scanner des surrénales; allergy testing = m bilan allergologique
an anti-CCP antibody test = m dosage des anticorps anti-CCP
an antinuclear antibody test = f recherche d'anticorps antinucléaires; an arterial blood gas = f gazométrie artérielle
+blood cultures = fp hémocultures; a blood film = m frottis sanguin; a blood ketone test = m dosage de la cétonémie
a bone marrow biopsy = f biopsie médullaire; a brain CT scan = m scanner cérébral; a brain MRI = f IRM cérébrale
a breast biopsy = f biopsie mammaire; bronchoscopy = f bronchoscopie
a carotid ultrasound = f échographie carotidienne; a cerebral angiogram = f artériographie cérébrale
a chest CT scan = m scanner thoracique; a chest radiograph = f radiographie thoracique; colonoscopy = f coloscopie
a compression ultrasound = f échographie veineuse; a coronary angiogram = f coronarographie
a depression rating scale = f échelle d'évaluation de la dépression
a dopamine transporter scan = f scintigraphie du transporteur de la dopamine; a duodenal biopsy = f biopsie duodénale
an electrocardiogram = m électrocardiogramme; a flow study = f débitmétrie urinaire
an electroencephalogram = m électroencéphalogramme; a foot radiograph = f radiographie du pied
gonioscopy = f gonioscopie; a hand radiograph = f radiographie des mains
a heterophile antibody test = f recherche d'anticorps hétérophiles; joint aspiration = f ponction articulaire
a lumbar puncture = f ponction lombaire; magnetic resonance enterography = f entéro-IRM
magnetic resonance cholangiography = f cholangio-IRM; a mammogram = f mammographie; pH monitoring = f pH-métrie
a nerve conduction study = m électromyogramme; a peak flow measurement = f mesure du débit expiratoire de pointe
a rapid antigen test = m test antigénique rapide; a renal biopsy = f biopsie rénale
a renal ultrasound = f échographie rénale; retinal photography = f rétinographie
serum protein electrophoresis = f électrophorèse des protéines; serum tryptase = m dosage de la tryptase
a short Synacthen test = m test au Synacthène; a skeletal survey = m bilan radiologique osseux
a skin biopsy = f biopsie cutanée; spirometry = f spirométrie; sputum examination = m examen de l'expectoration
a stool culture = f coproculture; a temporal artery biopsy = f biopsie de l'artère temporale
a temporal artery ultrasound = f échographie de l'artère temporale; a thrombophilia screen = m bilan de thrombophilie
+thyroid function tests = m bilan thyroïdien
a thyroid peroxidase antibody test = m dosage des anticorps anti-thyroperoxydase
a thyroid receptor antibody test = m dosage des anticorps anti-récepteur de la TSH
a thyroid scan = f scintigraphie thyroïdienne; a thyroid ultrasound = f échographie thyroïdienne
tonometry = f tonométrie; a tissue transglutaminase antibody test = m dosage des anticorps anti-transglutaminase
a transoesophageal echocardiogram = f échographie transœsophagienne
a transthoracic echocardiogram = f échographie transthoracique
an upper gastrointestinal endoscopy = f endoscopie digestive haute
a urease breath test = m test respiratoire à l'urée; urinalysis = f analyse d'urine
a urinary antigen test = f antigénurie; a urine culture = m examen cytobactériologique des urines

Escherichia coli = m Escherichia coli; Helicobacter pylori infection = f infection à Helicobacter pylori
Neisseria meningitidis = m Neisseria meningitidis; Plasmodium falciparum = m Plasmodium falciparum
ST-segment elevation = m sus-décalage du segment ST; Staphylococcus aureus = m Staphylococcus aureus
Streptococcus pneumoniae = m Streptococcus pneumoniae; Streptococcus pyogenes = m Streptococcus pyogenes
absence of P waves = f absence d'ondes P; absence of haemorrhage = f absence de saignement
absence of nitrites = f absence de nitrites; absence of pathogens = f absence de germe pathogène
absence of thrombus = f absence de thrombus; an absent cortisol response = f absence de réponse du cortisol
+acid-fast bacilli = mp bacilles acido-alcoolo-résistants; airflow obstruction = m trouble ventilatoire obstructif
an acute infarct of the {left/right} middle cerebral artery = m infarctus récent du territoire sylvien {gauche/droit}
an aneurysm of the anterior communicating artery = m anévrisme de l'artère communicante antérieure
angiodysplasia of the caecum = f angiodysplasie du cæcum
anterior wall hypokinesia = f hypokinésie de la paroi antérieure; +apical blebs = fp bulles des sommets
+atrophic adrenal glands = f atrophie des surrénales; a thymoma = m thymome
+atypical lymphocytes = mp lymphocytes atypiques; background retinopathy = f rétinopathie débutante
blood in the basal cisterns = m saignement des citernes de la base; a closed angle = m angle fermé
a cavity in the {right/left} upper lobe = f caverne du lobe supérieur {droit/gauche}
+circulating blasts = mp blastes circulants
consolidation of the {right/left} lower lobe = f condensation du lobe inférieur {droit/gauche}
continuous inflammation from the rectum = f inflammation continue à partir du rectum
a demyelinating polyneuropathy = f polyneuropathie démyélinisante
diffusely increased uptake = f hyperfixation diffuse
diffuse ST-segment elevation = m sus-décalage diffus du segment ST
a dilated left atrium = f dilatation de l'oreillette gauche; an endobronchial tumour = f tumeur endobronchique
an enlarged heart = f augmentation de la taille du cœur; erosive oesophagitis = f œsophagite érosive
excess plasma cells = m excès de plasmocytes; a factor V Leiden mutation = f mutation du facteur V Leiden
a filling defect in the {right/left} pulmonary artery = m défect de l'artère pulmonaire {droite/gauche}
first-degree heart block = m bloc auriculoventriculaire du premier degré; +gallstones = mp calculs biliaires
+gallstones with a thickened gallbladder wall = mp calculs biliaires avec paroi vésiculaire épaissie
glycosuria = f glycosurie; granulomatous inflammation = f inflammation granulomateuse; a halo sign = m signe du halo
heavy proteinuria = f protéinurie abondante; a heterogeneous gland = f glande hétérogène
high protein with a normal cell count = f hyperprotéinorachie sans pléiocytose
hippocampal sclerosis = f sclérose de l'hippocampe; +hyperinflated lungs = f distension pulmonaire
+inflamed sigmoid diverticula = mp diverticules sigmoïdiens inflammatoires; an intimal flap = m voile intimal
an invasive ductal carcinoma = m carcinome canalaire infiltrant
a large post-void residual volume = m résidu mictionnel important
a left bundle branch block = m bloc de branche gauche
+{left/right} temporal spikes = fp pointes temporales {gauches/droites}; +liver metastases = fp métastases hépatiques
lupus nephritis = f néphropathie lupique; +lytic bone lesions = fp lésions osseuses lytiques
+marginal erosions = fp érosions marginales; a marked elevation = f élévation nette
marked ketonaemia = f cétonémie élevée; metabolic acidosis = f acidose métabolique
microscopic haematuria = f hématurie microscopique; minimal change disease = fp lésions glomérulaires minimes
a monoclonal band = m pic monoclonal; a blast count above 50% = m taux de blastes supérieur à 50 %
a negative result = m résultat négatif; +negatively birefringent crystals = mp cristaux à biréfringence négative
a nodular liver with ascites = m foie nodulaire avec ascite
a non-compressible {right/left} femoral vein = f veine fémorale {droite/gauche} incompressible
+normal appearances = m aspect normal; a normal bile duct = f voie biliaire principale normale
a normal result = m résultat normal
occlusion of the left anterior descending artery = f occlusion de l'artère interventriculaire antérieure
+oesophageal varices = fp varices œsophagiennes; +oligoclonal bands = fp bandes oligoclonales
parakeratosis = f parakératose
a peak flow below half of the predicted value = m débit inférieur à la moitié de la valeur théorique
periappendiceal fat stranding = f infiltration de la graisse autour de l'appendice
+peripancreatic fluid collections = fp collections liquidiennes autour du pancréas
+periventricular demyelinating lesions = fp lésions démyélinisantes périventriculaires
pneumococcal antigen = m antigène du pneumocoque; a positive result = m résultat positif
prolonged acid exposure = f exposition acide prolongée; +punched-out erosions = fp érosions à l'emporte-pièce
a reduced ejection fraction = f baisse de la fraction d'éjection; a reduced peak flow = f baisse du débit maximal
reduced striatal uptake = f baisse de la fixation striatale; respiratory acidosis = f acidose respiratoire
respiratory alkalosis = f alcalose respiratoire; right ventricular dilatation = f dilatation du ventricule droit
a {right/left}-sided pneumothorax = m pneumothorax {droit/gauche}
a score in the severe range = m score de dépression sévère
sensitisation to the suspected allergen = f sensibilisation à l'allergène suspecté; +sickle cells = mp drépanocytes
sinus tachycardia = f tachycardie sinusale
+skip lesions with deep ulcers = fp lésions discontinues avec ulcérations profondes
+small echogenic kidneys = mp petits reins hyperéchogènes; +small pale red cells = fp hématies petites et pâles
a small pericardial effusion = m petit épanchement péricardique
a spiculated mass in the {right/left} upper lobe = f masse spiculée du lobe supérieur {droit/gauche}
a spiculated opacity with microcalcifications = f opacité spiculée avec microcalcifications
a stone in the {right/left} ureter = m calcul de l'uretère {droit/gauche}
a strongly positive titre = m taux fortement positif
a swollen {right/left} kidney = f augmentation de taille du rein {droit/gauche}
a thickened appendix = m appendice épaissi; a thickened terminal ileum = m épaississement de l'iléon terminal
a tight {left/right} internal carotid stenosis = f sténose serrée de la carotide interne {gauche/droite}
turbid fluid rich in neutrophils = m liquide trouble riche en polynucléaires neutrophiles
an ulcer with a clean base = m ulcère à fond propre; an ulcerated sigmoid tumour = f tumeur sigmoïdienne ulcérée
varicella-zoster virus = m virus varicelle-zona; a vegetation on the mitral valve = f végétation de la valve mitrale
a very high intraocular pressure = f pression intraoculaire très élevée; villous atrophy = f atrophie villositaire
a widened mediastinum = m élargissement du médiastin

adrenaline auto-injector training = f formation à l'auto-injecteur d'adrénaline
annual thyroid monitoring = f surveillance thyroïdienne annuelle
autologous stem cell transplantation = f autogreffe de cellules souches
avoidance of contact sports = f éviction des sports de contact; bone protection = f prévention de l'ostéoporose
bowel rest = f mise au repos digestif; breast-conserving surgery = f chirurgie mammaire conservatrice
chest drain insertion = m drainage thoracique; cognitive behavioural therapy = f thérapie cognitivo-comportementale
+compression stockings = f contention élastique; dietary advice = mp conseils diététiques
a driving restriction = f restriction de conduite; droplet isolation = m isolement respiratoire
electrical cardioversion = m choc électrique externe; emergency aortic repair = f chirurgie aortique en urgence
endoscopic haemostasis = f hémostase endoscopique; endovascular coiling = f embolisation endovasculaire
an exchange transfusion = m échange transfusionnel; an exercise restriction = f restriction de l'effort physique
fluid restriction = f restriction hydrique; a gluten-free diet = m régime sans gluten
a headache diary = m agenda des crises; intravenous fluids = f réhydratation intraveineuse
laparoscopic appendicectomy = f appendicectomie cœlioscopique
laparoscopic cholecystectomy = f cholécystectomie cœlioscopique; laser iridotomy = f iridotomie au laser
leg elevation = f surélévation de la jambe; mechanical thrombectomy = f thrombectomie mécanique
non-invasive ventilation = f ventilation non invasive; nutritional support = m soutien nutritionnel
oxygen therapy = f oxygénothérapie; percutaneous coronary intervention = f angioplastie coronaire
phototherapy = f photothérapie; physiotherapy = f kinésithérapie; plasma exchange = mp échanges plasmatiques
platelet transfusion = f transfusion de plaquettes; radioiodine treatment = m traitement par iode radioactif
radiotherapy = f radiothérapie; red cell transfusion = f transfusion de globules rouges
salt restriction = m régime hyposodé; sigmoid colectomy = f colectomie sigmoïdienne
a steroid emergency card = f carte d'urgence surrénalienne; sun protection = f photoprotection
therapeutic paracentesis = f ponction d'ascite évacuatrice; thymectomy = f thymectomie
tick removal = m retrait de la tique
transurethral resection of the prostate = f résection endoscopique de la prostate
ureteroscopic stone removal = f extraction du calcul par urétéroscopie; valve replacement = m remplacement valvulaire
weight reduction = f réduction pondérale; +wound dressings = mp soins locaux

Marfan syndrome = f maladie de Marfan; absence of chemoprophylaxis = f absence de chimioprophylaxie
an active cancer = m cancer évolutif; advanced age = m âge avancé; air pollution = f pollution de l'air
asbestos exposure = f exposition à l'amiante; asplenia = f asplénie; asthma = m asthme
an autoimmune disease = f maladie auto-immune; benzene exposure = f exposition au benzène
a bicuspid aortic valve = f bicuspidie aortique; a camping trip = m séjour récent en camping
chronic hepatitis C = f hépatite C chronique; chronic lung disease = f maladie respiratoire chronique
close contact with an infected person = m contact étroit avec une personne infectée
cold exposure = f exposition au froid; +colonic polyps = mp polypes du côlon
contact with an infected relative = m contact avec un proche infecté; dehydration = f déshydratation
a diet rich in processed meat = f alimentation riche en charcuterie; diuretic treatment = m traitement diurétique
excess alcohol = f consommation excessive d'alcool; excess dietary salt = m excès de sel alimentaire
a faecolith = m stercolithe; exposure to house dust mites = f exposition aux acariens
a family history of aneurysm = mp antécédents familiaux d'anévrisme
a family history of appendicitis = mp antécédents familiaux d'appendicite
a family history of autoimmune disease = mp antécédents familiaux de maladie auto-immune
a family history of bowel cancer = mp antécédents familiaux de cancer du côlon
a family history of breast cancer = mp antécédents familiaux de cancer du sein
a family history of coeliac disease = mp antécédents familiaux de maladie cœliaque
a family history of depression = mp antécédents familiaux de dépression
a family history of diabetes = mp antécédents familiaux de diabète
a family history of glaucoma = mp antécédents familiaux de glaucome
a family history of inflammatory bowel disease = mp antécédents familiaux de maladie inflammatoire de l'intestin
a family history of kidney stones = mp antécédents familiaux de calculs rénaux
a family history of migraine = mp antécédents familiaux de migraine
a family history of parkinsonism = mp antécédents familiaux de syndrome parkinsonien
a family history of pneumothorax = mp antécédents familiaux de pneumothorax
a family history of psoriasis = mp antécédents familiaux de psoriasis
a family history of thyroid disease = mp antécédents familiaux de maladie thyroïdienne
a food allergy = f allergie alimentaire; forestry work = m travail en forêt
gastrointestinal bleeding = f hémorragie digestive; gout = f goutte; a hiatus hernia = f hernie hiatale
hypercholesterolaemia = f hypercholestérolémie; hypertension = f hypertension artérielle
hypertriglyceridaemia = f hypertriglycéridémie; immunosuppression = f immunodépression
an insect venom allergy = f allergie aux venins d'hyménoptères
intravenous drug use = m usage de drogues par voie intraveineuse; ischaemic heart disease = f cardiopathie ischémique
lack of sleep = m manque de sommeil; +late evening meals = mp dîners tardifs; a late menopause = f ménopause tardive
life in a hall of residence = f vie en résidence universitaire; a long-haul flight = m long trajet en avion
long-sightedness = f hypermétropie; long-term anti-inflammatory use = f prise prolongée d'anti-inflammatoires
a low fluid intake = m faible apport hydrique; a low-fibre diet = f alimentation pauvre en fibres
lymphoedema = m lymphœdème; missed insulin doses = m oubli d'injections d'insuline
a monoclonal gammopathy = f gammapathie monoclonale; a myelodysplastic syndrome = m syndrome myélodysplasique
obesity = f obésité; overcrowded housing = m logement surpeuplé; periodontal disease = f maladie parodontale
pesticide exposure = f exposition aux pesticides; a pollen allergy = f allergie aux pollens
+polycystic kidneys = f polykystose rénale; polymyalgia rheumatica = f pseudopolyarthrite rhizomélique
poor adherence to inhaled treatment = f mauvaise observance du traitement inhalé
poor dental hygiene = f mauvaise hygiène dentaire; poorly controlled diabetes = m diabète mal équilibré
a previous Epstein-Barr virus infection = f infection ancienne par le virus d'Epstein-Barr
a previous appendicectomy = m antécédent d'appendicectomie; previous chemotherapy = m antécédent de chimiothérapie
a previous head injury = m antécédent de traumatisme crânien
previous radioiodine treatment = m antécédent de traitement par iode radioactif
a previous stroke = m antécédent d'accident vasculaire cérébral; previous tuberculosis = m antécédent de tuberculose
prolonged immobilisation = f immobilisation prolongée; a prosthetic heart valve = f prothèse valvulaire
radon exposure = f exposition au radon; rapid weight loss = m amaigrissement rapide
a recent bereavement = m deuil récent; a recent gastroenteritis = f gastro-entérite récente
recent heart surgery = f chirurgie cardiaque récente; recent influenza = f grippe récente
a recent sinusitis = f sinusite récente; recent surgery = f intervention chirurgicale récente
recent travel to West Africa = m voyage récent en Afrique de l'Ouest
a recent viral infection = f infection virale récente; a sedentary lifestyle = f sédentarité
sleep apnoea = f apnée du sommeil; smoking = m tabagisme; smoking cessation = m sevrage tabagique; stress = m stress
sun exposure = f exposition solaire; tall stature = f grande taille; a tick bite = f piqûre de tique
type 1 diabetes = m diabète de type 1; unemployment = f situation de chômage; a urinary catheter = f sonde urinaire
+urinary tract stones = fp lithiases urinaires; a vegetarian diet = m régime végétarien
vitamin D deficiency = f carence en vitamine D; osteoarthritis = f arthrose

Barrett oesophagus = m endobrachyœsophage; Lyme arthritis = f arthrite de Lyme
an abdominal abscess = m abcès abdominal; an acute chest syndrome = m syndrome thoracique aigu
acute kidney injury = f insuffisance rénale aiguë; an adrenal crisis = f crise surrénalienne
airway obstruction = f obstruction des voies aériennes; alcohol misuse = m mésusage d'alcool; angina = m angor
an aortic aneurysm = m anévrisme de l'aorte; aortic rupture = f rupture aortique
aspiration pneumonia = f pneumopathie d'inhalation; autonomic instability = f dysautonomie
a bacterial skin infection = f surinfection cutanée; a biphasic reaction = f réaction biphasique
+bladder stones = mp calculs vésicaux; +bone metastases = fp métastases osseuses
a bowel fistula = f fistule digestive; bowel obstruction = f occlusion intestinale
+brain metastases = fp métastases cérébrales; bronchiectasis = f dilatation des bronches
cardiac tamponade = f tamponnade; cardiogenic shock = m choc cardiogénique
a cardiorenal syndrome = m syndrome cardiorénal; carpal tunnel syndrome = m syndrome du canal carpien
a cataract = f cataracte; cerebral malaria = m neuropaludisme; cerebral oedema = m œdème cérébral
cerebral vasospasm = m vasospasme cérébral; cholangitis = f angiocholite
a chronic neuropathy = f neuropathie chronique; chronic pulmonary hypertension = f hypertension pulmonaire chronique
chronic tophaceous gout = f goutte tophacée chronique; circulatory collapse = m collapsus circulatoire
colorectal cancer = m cancer colorectal; constrictive pericarditis = f péricardite constrictive; dementia = f démence
+depressive symptoms = mp symptômes dépressifs; diabetic nephropathy = f néphropathie diabétique
diabetic retinopathy = f rétinopathie diabétique
disseminated intravascular coagulation = f coagulation intravasculaire disséminée; erythroderma = f érythrodermie
+falls = fp chutes; febrile neutropenia = f neutropénie fébrile; a foot ulcer = f plaie du pied
+fractures = fp fractures; gallbladder perforation = f perforation de la vésicule
gastric outlet obstruction = f sténose du pylore; haemorrhagic transformation = f transformation hémorragique
hearing loss = f perte auditive; heart block = m bloc auriculoventriculaire; heart failure = f insuffisance cardiaque
hepatic encephalopathy = f encéphalopathie hépatique; hepatitis = f hépatite; hydrocephalus = f hydrocéphalie
hypercalcaemia = f hypercalcémie; hyperkalaemia = f hyperkaliémie; hypoglycaemia = f hypoglycémie
hypokalaemia = f hypokaliémie; interstitial lung disease = f pneumopathie interstitielle
intestinal lymphoma = m lymphome intestinal; iron deficiency = f carence en fer
joint destruction = f destruction articulaire; keratitis = f kératite; a lung abscess = m abcès pulmonaire
massive haemoptysis = f hémoptysie massive; a medication-overuse headache = f céphalée par abus médicamenteux
mitral regurgitation = f insuffisance mitrale; a myasthenic crisis = f crise myasthénique
myxoedema coma = m coma myxœdémateux; necrotising fasciitis = f fasciite nécrosante
an oesophageal stricture = f sténose de l'œsophage; optic atrophy = f atrophie optique; osteoporosis = f ostéoporose
pancreatic necrosis = f nécrose pancréatique; a pathological fracture = f fracture pathologique
perforation = f perforation; a pericardial effusion = m épanchement péricardique; pericarditis = f péricardite
a peripheral embolism = f embolie périphérique; peritonitis = f péritonite
a perivalvular abscess = m abcès périvalvulaire; permanent visual loss = f perte définitive de la vision
a pleural effusion = m épanchement pleural; a pneumothorax = m pneumothorax
post-herpetic neuralgia = f névralgie post-zostérienne; a post-thrombotic syndrome = m syndrome post-thrombotique
a pseudocyst = m pseudokyste; psoriatic arthritis = m rhumatisme psoriasique; pulmonary oedema = m œdème pulmonaire
rebleeding = f récidive hémorragique; a recurrence = f récidive; recurrent thrombosis = f récidive thrombotique
a recurrent urinary infection = f infection urinaire récidivante; a renal abscess = m abcès du rein
renal failure = f insuffisance rénale; renal ischaemia = f ischémie rénale
renal vein thrombosis = f thrombose de la veine rénale; respiratory arrest = m arrêt respiratoire
respiratory failure = f insuffisance respiratoire; right heart failure = f insuffisance cardiaque droite
self-neglect = f incurie; septic embolism = f embolie septique; septic shock = m choc septique
severe anaemia = f anémie sévère; a skin abscess = m abcès cutané; spasticity = f spasticité
a splenic rupture = f rupture de la rate; splenic sequestration = f séquestration splénique
spontaneous bacterial peritonitis = f infection spontanée du liquide d'ascite
status epilepticus = m état de mal épileptique; status migrainosus = m état de mal migraineux
subcutaneous emphysema = m emphysème sous-cutané; superior vena cava obstruction = m syndrome cave supérieur
a tension pneumothorax = m pneumothorax compressif; a thyroid storm = f crise thyrotoxique
toxic megacolon = m mégacôlon toxique; a tumour lysis syndrome = m syndrome de lyse tumorale
urinary obstruction = f obstruction urinaire; urinary retention = f rétention d'urine; urosepsis = m sepsis urinaire
variceal bleeding = f hémorragie par rupture de varices; a ventricular arrhythmia = m trouble du rythme ventriculaire
ventricular fibrillation = f fibrillation ventriculaire

a 5-alpha-reductase inhibitor = m inhibiteur de la 5-alpha-réductase
an ACE inhibitor = m inhibiteur de l'enzyme de conversion; a GLP-1 receptor agonist = m agoniste du récepteur du GLP-1
a MAO-B inhibitor = m inhibiteur de la MAO-B; an SGLT2 inhibitor = m inhibiteur du SGLT2
a TNF inhibitor = m inhibiteur du TNF; an alpha-blocker = m alphabloquant
an aminoglycoside antibiotic = m antibiotique de la famille des aminosides; an analgesic = m antalgique
an angiogenesis inhibitor = m inhibiteur de l'angiogenèse; an anti-inflammatory drug = m anti-inflammatoire
an antiarrhythmic drug = m antiarythmique; an anticholinergic bronchodilator = m bronchodilatateur anticholinergique
an anticonvulsant = m antiépileptique; an antidepressant = m antidépresseur; an antiemetic = m antiémétique
an antihistamine = m antihistaminique; an antimalarial drug = m antipaludéen
an antiplatelet drug = m antiagrégant plaquettaire; an antithyroid drug = m antithyroïdien
an antituberculous drug = m antituberculeux; an antiviral drug = m antiviral
an aromatase inhibitor = m inhibiteur de l'aromatase; a benzodiazepine = f benzodiazépine
a beta-blocker = m bêtabloquant; a beta-agonist bronchodilator = m bronchodilatateur bêta-agoniste
a biguanide = m biguanide; a calcium channel blocker = m inhibiteur calcique
a carbonic anhydrase inhibitor = m inhibiteur de l'anhydrase carbonique; a catecholamine = f catécholamine
a cephalosporin antibiotic = m antibiotique de la famille des céphalosporines
a cholinergic eye drop = m collyre cholinergique; a cholinesterase inhibitor = m inhibiteur de la cholinestérase
a corticosteroid = m corticoïde; a cytotoxic drug = m cytotoxique; a dopamine agonist = m agoniste dopaminergique
a dopamine precursor = m précurseur de la dopamine; a hormone replacement = m traitement hormonal substitutif
an electrolyte supplement = m apport électrolytique
an erythropoiesis-stimulating agent = m agent stimulant l'érythropoïèse
a fluoroquinolone antibiotic = m antibiotique de la famille des fluoroquinolones
an immune checkpoint inhibitor = m inhibiteur de point de contrôle immunitaire
an immunomodulator = m immunomodulateur; an immunosuppressant = m immunosuppresseur
an interleukin-6 inhibitor = m inhibiteur de l'interleukine-6; an iron supplement = m apport en fer
a lincosamide antibiotic = m antibiotique de la famille des lincosamides; a loop diuretic = m diurétique de l'anse
a low-molecular-weight heparin = f héparine de bas poids moléculaire
a macrolide antibiotic = m antibiotique de la famille des macrolides; a monoclonal antibody = m anticorps monoclonal
a nitroimidazole antibiotic = m antibiotique de la famille des nitro-imidazolés
an opioid analgesic = m antalgique opioïde; an oral anticoagulant = m anticoagulant oral
an osmotic laxative = m laxatif osmotique; a penicillin antibiotic = m antibiotique de la famille des pénicillines
a phosphate binder = m chélateur du phosphate; a potassium-sparing diuretic = m diurétique épargneur de potassium
a proteasome inhibitor = m inhibiteur du protéasome; a proton pump inhibitor = m inhibiteur de la pompe à protons
a reflux suppressant = m pansement contre le reflux; a statin = f statine
a tetracycline antibiotic = m antibiotique de la famille des tétracyclines; a thrombolytic agent = m thrombolytique
a triptan = m triptan; a vitamin D analogue = m analogue de la vitamine D; a vitamin supplement = m apport vitaminique
a xanthine oxidase inhibitor = m inhibiteur de la xanthine oxydase
"""

"""The disease table. Phrases are keys of the bilingual lexicon; `knowledge` parses this text.

A disease is a block. Its first line is the English and the French name, then come lines that start with
`@` organ | specialty | ages | share of women | time since onset (h, d, w, m, y), `=` definition in both languages,
`s` symptoms, `e` signs, `t` tests and their findings, `l` laboratory ranges, `v` vital signs (Temperature, Heart rate,
systolic Pressure, Saturation, Respiratory rate), `d` drugs, `p` other care, `r` risk factors, `c` complications.
French nouns begin with their gender and number: m, f, mp, fp.
"""

DISEASES = """
community-acquired pneumonia | f pneumonie communautaire
@ lung | respiratory medicine | 18-90 | 0.45 | 2-7 d
= an infection of the lung tissue acquired outside hospital | f infection du tissu pulmonaire contractée hors de
  l'hôpital
s fever; productive cough; pleuritic chest pain; breathlessness; chills
e bronchial breathing at the right base; right basal crackles; dullness to percussion at the right base
t chest radiograph > consolidation of the right lower lobe; blood cultures > Streptococcus pneumoniae; urinary antigen
  test > pneumococcal antigen
l crp 90-290; wbc 12-22; na 130-136
v T38.2-39.8 H95-124 S87-94 R22-32
d amoxicillin; ceftriaxone; clarithromycin
p oxygen therapy
r smoking; chronic lung disease; recent influenza
c pleural effusion; septic shock; lung abscess

acute severe asthma | m asthme aigu grave
@ lung | respiratory medicine | 16-60 | 0.58 | 3-20 h
= an attack of bronchial obstruction that threatens life | f crise d'obstruction bronchique menaçant le pronostic vital
s breathlessness; wheezing; chest tightness; dry cough; difficulty speaking
e diffuse expiratory wheeze; use of accessory muscles; prolonged expiration
t peak flow measurement > peak flow below half of the predicted value; arterial blood gas > respiratory alkalosis
l wbc 7-12; lactate 1.4-3.1
v H108-138 S88-94 R26-38
d salbutamol; ipratropium; prednisolone
p oxygen therapy
r pollen allergy; poor adherence to inhaled treatment; exposure to house dust mites
c respiratory failure; pneumothorax; respiratory arrest

exacerbation of COPD | f exacerbation de BPCO
@ lung | respiratory medicine | 52-86 | 0.4 | 2-8 d
= an acute worsening of chronic bronchial obstruction | f aggravation aiguë d'une obstruction bronchique chronique
s breathlessness; productive cough; wheezing; purulent sputum; fatigue
e diffuse expiratory wheeze; prolonged expiration; barrel chest
t arterial blood gas > respiratory acidosis; chest radiograph > hyperinflated lungs; spirometry > airflow obstruction
l crp 15-90; wbc 9-15; ph 7.28-7.36
v T37.2-38.4 H92-118 S82-90 R24-34
d salbutamol; tiotropium; prednisolone; doxycycline
p non-invasive ventilation
r smoking; air pollution; recent viral infection
c respiratory failure; right heart failure; pneumothorax

pulmonary embolism | f embolie pulmonaire
@ pulmonary artery | respiratory medicine | 25-85 | 0.52 | 6-40 h
= an obstruction of a pulmonary artery by a clot | f obstruction d'une artère pulmonaire par un caillot
s breathlessness; pleuritic chest pain; palpitations; haemoptysis; syncope
e calf tenderness; raised jugular venous pressure; clear lung fields
t CT pulmonary angiogram > filling defect in the right pulmonary artery; electrocardiogram > sinus tachycardia;
  transthoracic echocardiogram > right ventricular dilatation
l ddimer 1200-6800; trop 18-90; bnp 400-2400
v H104-132 P92-124 S86-94 R22-34
d apixaban; enoxaparin; rivaroxaban
p oxygen therapy
r recent surgery; prolonged immobilisation; active cancer
c cardiogenic shock; chronic pulmonary hypertension; recurrent thrombosis

pulmonary tuberculosis | f tuberculose pulmonaire
@ lung | infectious diseases | 20-75 | 0.38 | 4-12 w
= an infection of the lung by Mycobacterium tuberculosis | f infection du poumon par Mycobacterium tuberculosis
s chronic cough; night sweats; weight loss; haemoptysis; fever
e apical crackles; cervical lymphadenopathy; wasting
t chest radiograph > cavity in the right upper lobe; sputum examination > acid-fast bacilli
l crp 25-110; esr 45-95; hb 9.8-12.2
v T37.6-38.6 H84-104 S93-97
d rifampicin; isoniazid; pyrazinamide; ethambutol
p droplet isolation
r contact with an infected relative; overcrowded housing; immunosuppression
c massive haemoptysis; pleural effusion; bronchiectasis

spontaneous pneumothorax | m pneumothorax spontané
@ pleura | respiratory medicine | 18-42 | 0.22 | 2-18 h
= an accumulation of air in the pleural space without injury | f accumulation d'air dans la cavité pleurale sans
  traumatisme
s pleuritic chest pain; breathlessness; shoulder pain; dry cough
e absent breath sounds on the right; hyperresonance on the right; reduced chest expansion on the right
t chest radiograph > right-sided pneumothorax; chest CT scan > apical blebs
l crp 1-8; wbc 5-10
v H90-116 S90-96 R20-28
d paracetamol; morphine
p chest drain insertion
r smoking; tall stature; family history of pneumothorax
c tension pneumothorax; recurrence; subcutaneous emphysema

acute myocardial infarction | m infarctus aigu du myocarde
@ heart | cardiology | 42-86 | 0.33 | 2-10 h
= a necrosis of the heart muscle caused by a blocked coronary artery | f nécrose du muscle cardiaque due à
  l'obstruction d'une artère coronaire
s crushing chest pain; left arm pain; sweating; nausea; breathlessness
e pallor; cool extremities; fourth heart sound
t electrocardiogram > ST-segment elevation; coronary angiogram > occlusion of the left anterior descending artery;
  transthoracic echocardiogram > anterior wall hypokinesia
l trop 450-9800; glucose 6.4-11; wbc 9-14
v H78-112 P98-164 S92-97 R18-24
d aspirin; ticagrelor; atorvastatin; bisoprolol
p percutaneous coronary intervention
r smoking; hypertension; hypercholesterolaemia
c ventricular fibrillation; cardiogenic shock; mitral regurgitation

acute heart failure | f insuffisance cardiaque aiguë
@ heart | cardiology | 58-92 | 0.48 | 2-9 d
= a failure of the heart to pump enough blood | f incapacité du cœur à assurer un débit sanguin suffisant
s breathlessness; orthopnoea; ankle swelling; fatigue; weight gain
e bilateral basal crackles; raised jugular venous pressure; pitting oedema of both legs; third heart sound
t chest radiograph > enlarged heart; transthoracic echocardiogram > reduced ejection fraction; electrocardiogram >
  left bundle branch block
l bnp 1800-14000; creat 92-170; na 128-137
v H88-122 P96-158 S86-93 R22-32
d furosemide; ramipril; spironolactone; dapagliflozin
p fluid restriction
r hypertension; ischaemic heart disease; excess dietary salt
c cardiorenal syndrome; ventricular arrhythmia; cardiogenic shock

atrial fibrillation | f fibrillation auriculaire
@ heart | cardiology | 54-90 | 0.46 | 4-48 h
= an irregular and often rapid rhythm of the atria | f activité irrégulière et souvent rapide des oreillettes
s palpitations; fatigue; breathlessness; light-headedness
e irregularly irregular pulse; variable first heart sound
t electrocardiogram > absence of P waves; transthoracic echocardiogram > dilated left atrium
l tsh 0.6-3.8; k 3.4-4.3; bnp 250-1600
v H112-158 P104-148 S94-98
d bisoprolol; apixaban; amiodarone
p electrical cardioversion
r hypertension; excess alcohol; sleep apnoea
c ischaemic stroke; heart failure; peripheral embolism

infective endocarditis | f endocardite infectieuse
@ heart | cardiology | 28-82 | 0.36 | 2-6 w
= an infection of the inner lining of the heart | f infection de la paroi interne du cœur
s fever; night sweats; weight loss; joint pain; fatigue
e new systolic murmur; splinter haemorrhages; splenomegaly
t blood cultures > Staphylococcus aureus; transoesophageal echocardiogram > vegetation on the mitral valve
l crp 70-240; wbc 11-19; hb 9.2-11.8; esr 55-105
v T38-39.6 H92-118 P98-132
d flucloxacillin; gentamicin; ceftriaxone
p valve replacement
r prosthetic heart valve; poor dental hygiene; intravenous drug use
c septic embolism; heart failure; perivalvular abscess

acute pericarditis | f péricardite aiguë
@ heart | cardiology | 18-58 | 0.35 | 1-5 d
= an inflammation of the membrane that surrounds the heart | f inflammation de la membrane qui entoure le cœur
s chest pain relieved by leaning forward; fever; palpitations; dry cough
e pericardial friction rub; normal heart sounds
t electrocardiogram > diffuse ST-segment elevation; transthoracic echocardiogram > small pericardial effusion
l crp 25-130; trop 4-40; wbc 8-14
v T37.6-38.6 H86-112
d ibuprofen; colchicine; aspirin
p exercise restriction
r recent viral infection; autoimmune disease; recent heart surgery
c cardiac tamponade; recurrence; constrictive pericarditis

deep vein thrombosis | f thrombose veineuse profonde
@ venous system | vascular medicine | 24-84 | 0.52 | 2-7 d
= a clot in a deep vein, usually of the leg | f formation d'un caillot dans une veine profonde, le plus souvent de la
  jambe
s leg swelling; calf pain; leg warmth; leg heaviness
e calf tenderness; unilateral pitting oedema; dilated superficial veins
t compression ultrasound > non-compressible right femoral vein; thrombophilia screen > factor V Leiden mutation
l ddimer 900-5200; plt 160-380
v H74-98
d rivaroxaban; apixaban; enoxaparin
p compression stockings
r prolonged immobilisation; recent surgery; long-haul flight
c pulmonary embolism; post-thrombotic syndrome; recurrent thrombosis

aortic dissection | f dissection aortique
@ aorta | vascular surgery | 46-80 | 0.34 | 1-8 h
= a tear in the inner layer of the aorta | f déchirure de la paroi interne de l'aorte
s tearing chest pain; back pain; syncope; sweating
e unequal blood pressure in the arms; early diastolic murmur; pallor
t CT aortogram > intimal flap; chest radiograph > widened mediastinum
l ddimer 2500-9800; lactate 1.8-4.6; hb 10.2-13
v H94-126 P158-204 R20-26
d labetalol; morphine
p emergency aortic repair
r hypertension; Marfan syndrome; bicuspid aortic valve
c cardiac tamponade; renal ischaemia; aortic rupture

ischaemic stroke | m accident vasculaire cérébral ischémique
@ brain | neurology | 52-92 | 0.48 | 1-9 h
= a sudden loss of blood supply to part of the brain | f interruption brutale de l'irrigation d'une partie du cerveau
s right arm weakness; slurred speech; facial droop; loss of balance
e right hemiparesis; right facial palsy; aphasia
t brain MRI > acute infarct of the left middle cerebral artery; carotid ultrasound > tight left internal carotid
  stenosis
l glucose 5.6-10.5; inr 0.9-1.2
v H70-104 P152-206
d alteplase; aspirin; clopidogrel; atorvastatin
p mechanical thrombectomy
r atrial fibrillation; hypertension; smoking
c aspiration pneumonia; haemorrhagic transformation; cerebral oedema

subarachnoid haemorrhage | f hémorragie sous-arachnoïdienne
@ brain | neurosurgery | 34-74 | 0.6 | 1-8 h
= a bleed into the space around the brain | m saignement dans l'espace qui entoure le cerveau
s thunderclap headache; vomiting; photophobia; loss of consciousness
e neck stiffness; drowsiness; third nerve palsy
t brain CT scan > blood in the basal cisterns; cerebral angiogram > aneurysm of the anterior communicating artery
l na 127-136; wbc 9-15; glucose 6-9.8
v H62-104 P150-198
d nimodipine; paracetamol
p endovascular coiling
r smoking; hypertension; family history of aneurysm
c cerebral vasospasm; hydrocephalus; rebleeding

bacterial meningitis | f méningite bactérienne
@ meninges | infectious diseases | 16-70 | 0.46 | 8-44 h
= an infection of the membranes around the brain | f infection des membranes qui entourent le cerveau
s headache; fever; photophobia; vomiting; confusion
e neck stiffness; purpuric rash; drowsiness
t lumbar puncture > turbid fluid rich in neutrophils; blood cultures > Neisseria meningitidis
l crp 120-330; wbc 14-27; lactate 2-5.2
v T38.8-40.2 H104-134 P88-118 R20-28
d cefotaxime; dexamethasone
p droplet isolation
r asplenia; recent sinusitis; life in a hall of residence
c septic shock; hearing loss; seizures

migraine with aura | f migraine avec aura
@ brain | neurology | 17-52 | 0.74 | 2-10 y
= a recurrent headache preceded by transient neurological symptoms | f céphalée récurrente précédée de troubles
  neurologiques transitoires
s throbbing headache; zigzag visual lines; nausea; photophobia; phonophobia
e scalp tenderness; normal neurological examination; normal fundi
t brain MRI > normal appearances; brain CT scan > absence of haemorrhage
l crp 1-4
v H62-84
d sumatriptan; propranolol; topiramate
p headache diary
r lack of sleep; family history of migraine; stress
c status migrainosus; medication-overuse headache; anxiety

focal epilepsy | f épilepsie focale
@ brain | neurology | 17-70 | 0.48 | 2-9 m
= a tendency to recurrent seizures that begin in one part of the brain | f tendance à des crises récurrentes débutant
  dans une région du cerveau
s seizures; loss of awareness; tongue biting; déjà vu; post-ictal confusion
e lateral tongue laceration; normal neurological examination
t electroencephalogram > left temporal spikes; brain MRI > hippocampal sclerosis
l glucose 4.6-6.2; lactate 1.4-4.8
v H74-102
d levetiracetam; lamotrigine; clobazam
p driving restriction
r previous head injury; lack of sleep; previous stroke
c status epilepticus; fractures; depressive symptoms

Parkinson's disease | f maladie de Parkinson
@ brain | neurology | 54-84 | 0.4 | 1-4 y
= a degeneration of the dopamine neurons of the brain | f dégénérescence des neurones dopaminergiques du cerveau
s resting tremor; slowness of movement; stiffness; small handwriting; loss of smell
e cogwheel rigidity; shuffling gait; reduced arm swing
t dopamine transporter scan > reduced striatal uptake; brain MRI > normal appearances
l tsh 0.8-3.6
v H64-82 P104-138
d levodopa; ropinirole; rasagiline
p physiotherapy
r advanced age; pesticide exposure; family history of parkinsonism
c falls; dementia; aspiration pneumonia

multiple sclerosis | f sclérose en plaques
@ central nervous system | neurology | 20-48 | 0.72 | 1-5 w
= an autoimmune disease that destroys myelin | f maladie auto-immune qui détruit la myéline
s blurred vision; limb numbness; unsteadiness; fatigue; urinary urgency
e relative afferent pupillary defect; brisk reflexes; sensory level
t brain MRI > periventricular demyelinating lesions; lumbar puncture > oligoclonal bands
l crp 1-5; b12 220-520
v H64-86
d methylprednisolone; ocrelizumab; natalizumab
p physiotherapy
r vitamin D deficiency; smoking; previous Epstein-Barr virus infection
c spasticity; urinary retention; depressive symptoms

Guillain-Barré syndrome | m syndrome de Guillain-Barré
@ peripheral nerves | neurology | 22-74 | 0.44 | 4-12 d
= an acute autoimmune inflammation of the nerves | f inflammation auto-immune aiguë des nerfs
s ascending leg weakness; tingling in the feet; back pain; unsteadiness
e absent tendon reflexes; symmetrical leg weakness; facial weakness
t lumbar puncture > high protein with a normal cell count; nerve conduction study > demyelinating polyneuropathy
l crp 2-14; na 130-138
v H88-122 P108-172
d intravenous immunoglobulin; gabapentin
p plasma exchange
r recent gastroenteritis; recent viral infection; recent influenza
c respiratory failure; autonomic instability; deep vein thrombosis

myasthenia gravis | f myasthénie auto-immune
@ neuromuscular junction | neurology | 22-78 | 0.58 | 2-8 m
= an autoimmune disease of the neuromuscular junction | f maladie auto-immune de la jonction neuromusculaire
s drooping eyelids; double vision; difficulty swallowing; fatigable weakness
e fatigable ptosis; weakness of neck flexion; normal tendon reflexes
t acetylcholine receptor antibody test > strongly positive titre; chest CT scan > thymoma
l tsh 0.7-3.5; crp 1-5
v H66-90 S94-98
d pyridostigmine; prednisolone; azathioprine
p thymectomy
r autoimmune disease; thymoma; family history of autoimmune disease
c myasthenic crisis; respiratory failure; aspiration pneumonia

acute appendicitis | f appendicite aiguë
@ appendix | general surgery | 16-48 | 0.46 | 12-46 h
= an acute inflammation of the appendix | f inflammation aiguë de l'appendice
s right iliac fossa pain; nausea; vomiting; loss of appetite; fever
e guarding in the right iliac fossa; rebound tenderness; pain on hip extension
t abdominal ultrasound > thickened appendix; abdominal CT scan > periappendiceal fat stranding
l wbc 12-19; crp 30-160
v T37.7-38.7 H88-112
d co-amoxiclav; metronidazole; paracetamol
p laparoscopic appendicectomy
r low-fibre diet; family history of appendicitis; faecolith
c perforation; peritonitis; abdominal abscess

acute cholecystitis | f cholécystite aiguë
@ gallbladder | general surgery | 36-82 | 0.62 | 1-4 d
= an acute inflammation of the gallbladder | f inflammation aiguë de la vésicule biliaire
s right upper quadrant pain; fever; nausea; vomiting; shoulder pain
e positive Murphy sign; guarding in the right upper quadrant
t abdominal ultrasound > gallstones with a thickened gallbladder wall; magnetic resonance cholangiography > normal
  bile duct
l wbc 12-20; crp 60-220; alt 38-120; bili 14-42
v T38-39.2 H90-116
d piperacillin-tazobactam; paracetamol; metronidazole
p laparoscopic cholecystectomy
r gallstones; obesity; rapid weight loss
c gallbladder perforation; cholangitis; septic shock

acute pancreatitis | f pancréatite aiguë
@ pancreas | gastroenterology | 30-76 | 0.44 | 8-40 h
= an acute inflammation of the pancreas | f inflammation aiguë du pancréas
s epigastric pain; back pain; vomiting; nausea; abdominal distension
e epigastric tenderness; reduced bowel sounds; dry mucous membranes
t abdominal CT scan > peripancreatic fluid collections; abdominal ultrasound > gallstones
l lipase 480-3600; crp 80-280; wbc 12-20; calc 1.95-2.25
v T37.5-38.7 H98-126 P94-128 R20-28
d morphine; paracetamol; ondansetron
p intravenous fluids
r excess alcohol; gallstones; hypertriglyceridaemia
c pancreatic necrosis; pseudocyst; respiratory failure

duodenal ulcer | m ulcère duodénal
@ duodenum | gastroenterology | 28-78 | 0.38 | 3-10 w
= a break in the lining of the duodenum | f perte de substance de la muqueuse duodénale
s epigastric pain relieved by food; heartburn; bloating; black stools
e epigastric tenderness; pallor
t upper gastrointestinal endoscopy > ulcer with a clean base; urease breath test > Helicobacter pylori infection
l hb 8.6-11.8; ferritin 8-28; mcv 72-82
v H82-108 P100-132
d omeprazole; amoxicillin; clarithromycin
p endoscopic haemostasis
r Helicobacter pylori infection; long-term anti-inflammatory use; smoking
c gastrointestinal bleeding; perforation; gastric outlet obstruction

Crohn's disease | f maladie de Crohn
@ small bowel | gastroenterology | 17-46 | 0.54 | 2-9 m
= a chronic inflammation that can affect any part of the gut | f inflammation chronique pouvant toucher tout le tube
  digestif
s chronic diarrhoea; abdominal cramps; weight loss; fatigue; mouth ulcers
e right iliac fossa mass; perianal fistula; pallor
t colonoscopy > skip lesions with deep ulcers; magnetic resonance enterography > thickened terminal ileum
l crp 20-110; hb 9.4-12; alb 26-35; ferritin 8-40
v T37.1-38.1 H80-104
d budesonide; azathioprine; infliximab
p nutritional support
r smoking; family history of inflammatory bowel disease; previous appendicectomy
c bowel obstruction; abdominal abscess; bowel fistula

ulcerative colitis | f rectocolite hémorragique
@ colon | gastroenterology | 18-60 | 0.48 | 3-12 w
= a chronic inflammation of the lining of the colon | f inflammation chronique de la muqueuse du côlon
s bloody diarrhoea; rectal urgency; abdominal cramps; fatigue; mucus in the stools
e left iliac fossa tenderness; blood on rectal examination
t colonoscopy > continuous inflammation from the rectum; stool culture > absence of pathogens
l crp 15-95; hb 9.2-12; plt 380-560; alb 27-36
v T37-38.2 H82-110
d mesalazine; prednisolone; vedolizumab
p nutritional support
r family history of inflammatory bowel disease; smoking cessation; recent gastroenteritis
c toxic megacolon; colorectal cancer; gastrointestinal bleeding

decompensated cirrhosis | f cirrhose décompensée
@ liver | hepatology | 40-78 | 0.34 | 2-6 w
= a scarring of the liver that has begun to fail | f fibrose du foie avec perte de sa fonction
s abdominal distension; jaundice; fatigue; ankle swelling; itching
e shifting dullness; spider naevi; asterixis; palmar erythema
t abdominal ultrasound > nodular liver with ascites; upper gastrointestinal endoscopy > oesophageal varices
l bili 48-210; alb 19-29; inr 1.5-2.4; plt 54-118; na 124-134
v H84-108 P92-116
d spironolactone; propranolol; lactulose
p therapeutic paracentesis
r excess alcohol; chronic hepatitis C; obesity
c variceal bleeding; hepatic encephalopathy; spontaneous bacterial peritonitis

acute diverticulitis | f diverticulite aiguë
@ colon | general surgery | 44-84 | 0.52 | 1-5 d
= an inflammation of pouches in the wall of the colon | f inflammation de diverticules de la paroi du côlon
s left iliac fossa pain; fever; constipation; nausea; bloating
e left iliac fossa tenderness; guarding in the left iliac fossa
t abdominal CT scan > inflamed sigmoid diverticula; urinalysis > absence of nitrites
l wbc 12-18; crp 50-190
v T37.7-38.8 H84-108
d co-amoxiclav; metronidazole; paracetamol
p bowel rest
r low-fibre diet; obesity; sedentary lifestyle
c abdominal abscess; perforation; bowel fistula

coeliac disease | f maladie cœliaque
@ small bowel | gastroenterology | 18-56 | 0.66 | 4-14 m
= an immune reaction of the gut to gluten | f réaction immunitaire de l'intestin au gluten
s chronic diarrhoea; bloating; weight loss; fatigue; muscle cramps
e pallor; itchy blisters on the elbows; wasting
t tissue transglutaminase antibody test > strongly positive titre; duodenal biopsy > villous atrophy
l hb 9-11.6; ferritin 4-16; mcv 70-80; b12 110-190
v H66-88
d ferrous sulfate; colecalciferol; folic acid
p gluten-free diet
r family history of coeliac disease; type 1 diabetes; autoimmune disease
c osteoporosis; intestinal lymphoma; iron deficiency

gastro-oesophageal reflux disease | m reflux gastro-œsophagien
@ oesophagus | gastroenterology | 24-72 | 0.48 | 3-18 m
= a backflow of stomach acid into the oesophagus | f remontée du contenu acide de l'estomac dans l'œsophage
s heartburn; acid regurgitation; chronic cough; hoarse voice
e epigastric tenderness; dental erosion
t upper gastrointestinal endoscopy > erosive oesophagitis; pH monitoring > prolonged acid exposure
l hb 12.6-15
v H62-84
d esomeprazole; alginate
p weight reduction
r obesity; hiatus hernia; late evening meals
c Barrett oesophagus; oesophageal stricture; gastrointestinal bleeding

acute pyelonephritis | f pyélonéphrite aiguë
@ kidney | nephrology | 18-74 | 0.78 | 1-4 d
= a bacterial infection of the kidney | f infection bactérienne du rein
s fever; flank pain; burning urination; chills; vomiting
e right renal angle tenderness; suprapubic tenderness
t urine culture > Escherichia coli; renal ultrasound > swollen right kidney
l crp 80-260; wbc 13-22; creat 76-140
v T38.5-40 H96-124 P96-126
d ciprofloxacin; cefotaxime; gentamicin
p intravenous fluids
r urinary tract stones; urinary catheter; poorly controlled diabetes
c septic shock; renal abscess; acute kidney injury

renal colic | f colique néphrétique
@ urinary tract | urology | 24-64 | 0.32 | 2-14 h
= a severe pain caused by a stone in the ureter | f douleur intense due à un calcul de l'uretère
s flank pain; pain radiating to the groin; visible haematuria; vomiting; restlessness
e right renal angle tenderness; soft abdomen
t CT urogram > stone in the right ureter; urinalysis > microscopic haematuria
l creat 78-132; crp 2-24; urate 320-520
v H88-114 P128-168
d ketoprofen; tamsulosin; morphine
p ureteroscopic stone removal
r low fluid intake; family history of kidney stones; gout
c urinary obstruction; acute kidney injury; urosepsis

nephrotic syndrome | m syndrome néphrotique
@ kidney | nephrology | 18-68 | 0.44 | 2-6 w
= a leak of protein through the filters of the kidney | f fuite de protéines à travers le filtre rénal
s facial swelling; ankle swelling; frothy urine; weight gain; fatigue
e periorbital oedema; pitting oedema of both legs; ascites
t renal biopsy > minimal change disease; urinalysis > heavy proteinuria
l alb 14-25; prot 4.2-12.5; creat 68-128
v H72-94 P118-154
d prednisolone; ramipril; furosemide
p salt restriction
r long-term anti-inflammatory use; recent viral infection; autoimmune disease
c renal vein thrombosis; spontaneous bacterial peritonitis; acute kidney injury

type 2 diabetes | m diabète de type 2
@ endocrine pancreas | endocrinology | 38-78 | 0.44 | 2-6 m
= a chronic excess of blood glucose due to insulin resistance | m excès chronique de glucose sanguin lié à une
  résistance à l'insuline
s excessive thirst; frequent urination; blurred vision; fatigue; recurrent thrush
e dark skin folds in the neck; reduced vibration sense; abdominal obesity
t retinal photography > background retinopathy; urinalysis > glycosuria
l hba1c 7.2-11.4; glucose 10.5-19; alt 24-72
v H70-90 P132-164
d metformin; empagliflozin; semaglutide
p dietary advice
r obesity; sedentary lifestyle; family history of diabetes
c diabetic nephropathy; diabetic retinopathy; foot ulcer

diabetic ketoacidosis | f acidocétose diabétique
@ endocrine pancreas | endocrinology | 17-52 | 0.5 | 1-4 d
= an accumulation of ketones caused by a lack of insulin | f accumulation de corps cétoniques due à un manque d'insuline
s excessive thirst; frequent urination; vomiting; abdominal pain; drowsiness
e deep sighing respiration; acetone breath; dry mucous membranes
t blood ketone test > marked ketonaemia; arterial blood gas > metabolic acidosis
l glucose 19-38; ph 6.98-7.24; k 4.8-6; wbc 11-18
v H106-132 P88-116 R24-36
d insulin; potassium chloride
p intravenous fluids
r missed insulin doses; type 1 diabetes; recent viral infection
c cerebral oedema; hypokalaemia; acute kidney injury

Graves' disease | f maladie de Basedow
@ thyroid | endocrinology | 22-58 | 0.8 | 2-7 m
= an autoimmune overactivity of the thyroid | f hyperactivité auto-immune de la thyroïde
s palpitations; weight loss; heat intolerance; anxiety; tremor
e diffuse goitre; protruding eyes; fine tremor; warm moist skin
t thyroid receptor antibody test > strongly positive titre; thyroid scan > diffusely increased uptake
l tsh 0.01-0.05; ft4 34-72; alt 20-58
v H98-132 P128-158
d carbimazole; propranolol
p radioiodine treatment
r smoking; family history of thyroid disease; stress
c atrial fibrillation; thyroid storm; osteoporosis

primary hypothyroidism | f hypothyroïdie primaire
@ thyroid | endocrinology | 28-78 | 0.82 | 4-14 m
= a deficiency of thyroid hormone caused by failure of the gland | m déficit en hormones thyroïdiennes dû à une
  défaillance de la glande
s fatigue; weight gain; cold intolerance; constipation; hair loss
e dry skin; slow relaxing reflexes; puffy face
t thyroid peroxidase antibody test > strongly positive titre; thyroid ultrasound > heterogeneous gland
l tsh 18-92; ft4 3-8.5; na 131-138
v T35.6-36.4 H48-62
d levothyroxine
p annual thyroid monitoring
r autoimmune disease; previous radioiodine treatment; family history of thyroid disease
c pericardial effusion; myxoedema coma; hypercholesterolaemia

Addison's disease | f maladie d'Addison
@ adrenal gland | endocrinology | 22-60 | 0.58 | 3-9 m
= a failure of the adrenal glands to make cortisol | f incapacité des glandes surrénales à produire du cortisol
s fatigue; weight loss; light-headedness; salt craving; abdominal pain
e skin hyperpigmentation; postural hypotension; dark palmar creases
t short Synacthen test > absent cortisol response; adrenal CT scan > atrophic adrenal glands
l cortisol 18-95; na 119-131; k 5.1-6.2; glucose 3.1-4.3
v H86-112 P82-104
d hydrocortisone; fludrocortisone
p steroid emergency card
r autoimmune disease; previous tuberculosis; family history of autoimmune disease
c adrenal crisis; hypoglycaemia; circulatory collapse

iron-deficiency anaemia | f anémie ferriprive
@ blood | haematology | 20-80 | 0.68 | 2-7 m
= a lack of haemoglobin due to depleted iron stores | m manque d'hémoglobine lié à l'épuisement des réserves en fer
s fatigue; exertional breathlessness; palpitations; pica; hair loss
e pallor; spoon-shaped nails; angular stomatitis
t blood film > small pale red cells; colonoscopy > angiodysplasia of the caecum
l hb 6.4-9.8; ferritin 3-11; mcv 62-75; plt 340-520
v H88-112 P100-128
d ferrous sulfate; ferric carboxymaltose
p red cell transfusion
r vegetarian diet; long-term anti-inflammatory use; gastrointestinal bleeding
c heart failure; angina; recurrence

multiple myeloma | m myélome multiple
@ bone marrow | haematology | 56-84 | 0.44 | 2-6 m
= a cancer of the plasma cells of the bone marrow | m cancer des plasmocytes de la moelle osseuse
s back pain; fatigue; recurrent infections; weight loss; constipation
e spinal tenderness; pallor
t serum protein electrophoresis > monoclonal band; bone marrow biopsy > excess plasma cells; skeletal survey > lytic
  bone lesions
l hb 7.8-10.6; calc 2.62-3.3; creat 118-290; esr 68-125
v H76-98
d bortezomib; lenalidomide; dexamethasone
p autologous stem cell transplantation
r advanced age; monoclonal gammopathy; pesticide exposure
c pathological fracture; renal failure; hypercalcaemia

acute myeloid leukaemia | f leucémie aiguë myéloïde
@ bone marrow | haematology | 34-80 | 0.46 | 2-5 w
= a cancer of immature myeloid cells | m cancer des cellules myéloïdes immatures
s fatigue; easy bruising; bleeding gums; recurrent infections; fever
e petechiae; pallor; gum swelling
t blood film > circulating blasts; bone marrow biopsy > blast count above 50%
l wbc 28-145; hb 6.4-9.2; plt 8-52; ldh 420-1500
v T37.8-39.2 H94-120
d cytarabine; daunorubicin; allopurinol
p platelet transfusion
r previous chemotherapy; benzene exposure; myelodysplastic syndrome
c febrile neutropenia; tumour lysis syndrome; disseminated intravascular coagulation

sickle cell crisis | f crise drépanocytaire
@ blood | haematology | 16-44 | 0.5 | 10-48 h
= an obstruction of small vessels by sickled red cells | f obstruction des petits vaisseaux par des globules rouges
  falciformes
s bone pain; back pain; fever; fatigue; jaundice
e bone tenderness; scleral icterus; pallor
t blood film > sickle cells; chest radiograph > normal appearances
l hb 6.2-8.8; bili 38-92; ldh 360-820; wbc 11-19
v T37.3-38.5 H94-120 S91-96
d morphine; hydroxycarbamide; folic acid
p exchange transfusion
r dehydration; cold exposure; recent viral infection
c acute chest syndrome; ischaemic stroke; splenic sequestration

acute gout | f crise de goutte
@ joint | rheumatology | 40-82 | 0.2 | 1-4 d
= an arthritis caused by urate crystals | f arthrite due à des cristaux d'urate
s great toe pain; joint swelling; joint redness; fever
e hot swollen right first toe; tophi on the ears
t joint aspiration > negatively birefringent crystals; foot radiograph > punched-out erosions
l urate 460-680; crp 25-130; creat 84-138
v T37.2-38.3 H76-98
d colchicine; allopurinol; prednisolone
p weight reduction
r excess alcohol; diuretic treatment; obesity
c chronic tophaceous gout; urinary tract stones; joint destruction

rheumatoid arthritis | f polyarthrite rhumatoïde
@ joint | rheumatology | 30-74 | 0.72 | 2-8 m
= a chronic autoimmune inflammation of the joints | f inflammation auto-immune chronique des articulations
s joint pain; morning stiffness; joint swelling; fatigue
e symmetrical synovitis of the hands; rheumatoid nodules; positive squeeze test
t anti-CCP antibody test > strongly positive titre; hand radiograph > marginal erosions
l crp 18-90; esr 38-86; hb 10.2-12.2
v H72-94
d methotrexate; adalimumab; folic acid
p physiotherapy
r smoking; family history of autoimmune disease; periodontal disease
c joint destruction; interstitial lung disease; carpal tunnel syndrome

giant cell arteritis | f artérite à cellules géantes
@ temporal artery | rheumatology | 62-88 | 0.7 | 2-6 w
= an inflammation of the large and medium arteries of the head | f inflammation des artères de gros et moyen calibre
  de la tête
s temporal headache; jaw claudication; scalp tenderness; blurred vision; fatigue
e tender right temporal artery; absent right temporal pulse
t temporal artery biopsy > granulomatous inflammation; temporal artery ultrasound > halo sign
l esr 72-122; crp 45-160; plt 400-590; hb 9.8-12
v T37-38.1 H72-94
d prednisolone; tocilizumab; aspirin
p bone protection
r advanced age; polymyalgia rheumatica; smoking
c permanent visual loss; aortic aneurysm; ischaemic stroke

systemic lupus erythematosus | m lupus érythémateux systémique
@ immune system | internal medicine | 18-46 | 0.88 | 2-8 m
= a systemic autoimmune disease driven by antinuclear antibodies | f maladie auto-immune systémique liée à des
  anticorps antinucléaires
s joint pain; facial rash; photosensitivity; mouth ulcers; fatigue
e malar rash; diffuse hair thinning; symmetrical synovitis of the hands
t antinuclear antibody test > strongly positive titre; renal biopsy > lupus nephritis
l wbc 2.1-3.7; plt 88-148; esr 44-92; prot 0.6-3.4
v T37.1-38.2 H78-100
d hydroxychloroquine; prednisolone; mycophenolate
p sun protection
r family history of autoimmune disease; sun exposure; smoking
c renal failure; pericarditis; recurrent thrombosis

cellulitis of the leg | f dermohypodermite de la jambe
@ skin | dermatology | 34-86 | 0.48 | 1-5 d
= a bacterial infection of the deep layers of the skin | f infection bactérienne des couches profondes de la peau
s leg redness; leg swelling; fever; leg warmth; chills
e spreading erythema of the right leg; athlete's foot; inguinal lymphadenopathy
t blood cultures > Streptococcus pyogenes; compression ultrasound > absence of thrombus
l crp 60-230; wbc 12-20
v T38-39.4 H88-114
d flucloxacillin; clindamycin
p leg elevation
r lymphoedema; obesity; poorly controlled diabetes
c skin abscess; necrotising fasciitis; septic shock

shingles | m zona
@ skin | dermatology | 48-88 | 0.56 | 2-6 d
= a reactivation of the varicella virus in a nerve | f réactivation du virus de la varicelle dans un nerf
s burning skin pain; blistering rash; tingling; fatigue
e clustered vesicles in a single dermatome; skin hypersensitivity
t PCR of vesicle fluid > varicella-zoster virus; HIV test > negative result
l crp 3-18; wbc 5-10
v T36.9-38 H70-92
d valaciclovir; pregabalin
p wound dressings
r advanced age; immunosuppression; stress
c post-herpetic neuralgia; keratitis; bacterial skin infection

plaque psoriasis | m psoriasis en plaques
@ skin | dermatology | 20-66 | 0.48 | 1-7 y
= a chronic inflammatory disease with fast renewal of the skin | f maladie inflammatoire chronique avec renouvellement
  accéléré de la peau
s scaly plaques; itching; joint pain; nail changes
e silvery plaques on the elbows; nail pitting; scalp scaling
t skin biopsy > parakeratosis; hand radiograph > normal appearances
l crp 3-22; urate 320-470
v H66-86
d calcipotriol; methotrexate; secukinumab
p phototherapy
r family history of psoriasis; stress; obesity
c psoriatic arthritis; erythroderma; depressive symptoms

malaria | m paludisme
@ blood | infectious diseases | 18-66 | 0.42 | 3-9 d
= a parasitic infection transmitted by mosquitoes | f infection parasitaire transmise par les moustiques
s fever; chills; headache; muscle pain; vomiting
e splenomegaly; scleral icterus; pallor
t blood film > Plasmodium falciparum; rapid antigen test > positive result
l plt 34-110; hb 8.4-11.4; bili 28-88; ldh 320-780
v T38.8-40.3 H98-126 P92-120
d artesunate; artemether-lumefantrine; paracetamol
p intravenous fluids
r recent travel to West Africa; absence of chemoprophylaxis; asplenia
c cerebral malaria; acute kidney injury; severe anaemia

Lyme disease | f maladie de Lyme
@ skin | infectious diseases | 20-72 | 0.5 | 2-5 w
= a bacterial infection transmitted by ticks | f infection bactérienne transmise par les tiques
s expanding rash; fatigue; joint pain; headache; muscle pain
e erythema migrans; facial weakness
t Borrelia serology > positive result; electrocardiogram > first-degree heart block
l crp 4-26; esr 14-40
v T36.8-37.9 H64-86
d doxycycline; ceftriaxone
p tick removal
r tick bite; forestry work; camping trip
c Lyme arthritis; heart block; chronic neuropathy

infectious mononucleosis | f mononucléose infectieuse
@ lymphatic system | infectious diseases | 16-30 | 0.5 | 5-14 d
= an infection with Epstein-Barr virus | f infection par le virus d'Epstein-Barr
s sore throat; fever; fatigue; swollen neck glands; loss of appetite
e exudative tonsillitis; splenomegaly; cervical lymphadenopathy
t heterophile antibody test > positive result; blood film > atypical lymphocytes
l wbc 11-20; alt 78-290; plt 105-190; crp 10-55
v T38-39.3 H84-106
d paracetamol; ibuprofen
p avoidance of contact sports
r close contact with an infected person; life in a hall of residence; stress
c splenic rupture; airway obstruction; hepatitis

acute angle-closure glaucoma | m glaucome aigu par fermeture de l'angle
@ eye | ophthalmology | 50-82 | 0.66 | 3-16 h
= a sudden rise in pressure inside the eye | f élévation brutale de la pression dans l'œil
s eye pain; blurred vision; halos around lights; headache; vomiting
e red right eye; fixed mid-dilated pupil; hazy cornea
t tonometry > very high intraocular pressure; gonioscopy > closed angle
l glucose 5-7.4; k 3.6-4.4
v H78-102 P134-172
d acetazolamide; timolol; pilocarpine
p laser iridotomy
r long-sightedness; family history of glaucoma; advanced age
c permanent visual loss; optic atrophy; cataract

major depressive disorder | m épisode dépressif majeur
@ brain | psychiatry | 18-72 | 0.64 | 4-16 w
= a lasting disorder of mood with loss of interest | m trouble durable de l'humeur avec perte d'intérêt
s low mood; loss of interest; early waking; loss of appetite; poor concentration
e psychomotor slowing; poor eye contact; tearfulness
t depression rating scale > score in the severe range; thyroid function tests > normal result
l tsh 0.8-3.6; b12 240-520
v H62-84
d sertraline; mirtazapine
p cognitive behavioural therapy
r recent bereavement; unemployment; family history of depression
c self-neglect; alcohol misuse; recurrence

colon cancer | m cancer du côlon
@ colon | oncology | 50-86 | 0.46 | 2-6 m
= a malignant tumour of the colon | f tumeur maligne du côlon
s change in bowel habit; rectal bleeding; weight loss; fatigue; abdominal cramps
e left iliac fossa mass; pallor; hepatomegaly
t colonoscopy > ulcerated sigmoid tumour; abdominal CT scan > liver metastases
l hb 7.8-11; ferritin 5-18; cea 12-180; alb 28-37
v H76-98
d oxaliplatin; capecitabine; bevacizumab
p sigmoid colectomy
r family history of bowel cancer; diet rich in processed meat; colonic polyps
c bowel obstruction; perforation; gastrointestinal bleeding

lung cancer | m cancer du poumon
@ lung | oncology | 52-84 | 0.4 | 2-5 m
= a malignant tumour of the lung | f tumeur maligne du poumon
s chronic cough; haemoptysis; weight loss; hoarse voice; breathlessness
e finger clubbing; supraclavicular lymphadenopathy; monophonic wheeze on the right
t chest CT scan > spiculated mass in the right upper lobe; bronchoscopy > endobronchial tumour
l calc 2.45-3; na 124-136; hb 10.2-12.6; alb 28-38
v H78-102 S91-96
d pembrolizumab; carboplatin; pemetrexed
p radiotherapy
r smoking; asbestos exposure; radon exposure
c superior vena cava obstruction; brain metastases; hypercalcaemia

breast cancer | m cancer du sein
@ breast | oncology | 52-82 | 1 | 2-5 m
= a malignant tumour of the breast | f tumeur maligne du sein
s breast lump; nipple discharge; skin dimpling; breast pain
e firm mass in the right breast; axillary lymphadenopathy; nipple retraction
t mammogram > spiculated opacity with microcalcifications; breast biopsy > invasive ductal carcinoma
l hb 11.8-13.8; alt 14-44
v H68-88
d letrozole; trastuzumab; docetaxel
p breast-conserving surgery
r family history of breast cancer; late menopause; excess alcohol
c bone metastases; lymphoedema; pathological fracture

benign prostatic hyperplasia | f hypertrophie bénigne de la prostate
@ prostate | urology | 56-86 | 0 | 4-18 m
= a benign enlargement of the prostate | f augmentation bénigne du volume de la prostate
s weak urinary stream; nocturia; hesitancy; urinary urgency; terminal dribbling
e smooth enlarged prostate; palpable bladder
t renal ultrasound > large post-void residual volume; flow study > reduced peak flow
l psa 3.2-8.4; creat 82-138
v H64-84 P126-156
d tamsulosin; finasteride
p transurethral resection of the prostate
r advanced age; obesity; sedentary lifestyle
c urinary retention; bladder stones; recurrent urinary infection

anaphylaxis | f anaphylaxie
@ immune system | emergency medicine | 16-64 | 0.52 | 1-3 h
= a severe allergic reaction of sudden onset | f réaction allergique grave d'installation brutale
s widespread hives; lip swelling; breathlessness; light-headedness; vomiting
e facial angioedema; diffuse expiratory wheeze; urticarial rash
t serum tryptase > marked elevation; allergy testing > sensitisation to the suspected allergen
l lactate 2-5; wbc 8-14
v H112-142 P68-90 S88-94 R24-34
d adrenaline; chlorphenamine; hydrocortisone
p adrenaline auto-injector training
r food allergy; insect venom allergy; asthma
c circulatory collapse; airway obstruction; biphasic reaction

chronic kidney disease | f maladie rénale chronique
@ kidney | nephrology | 46-86 | 0.44 | 3-12 m
= a lasting loss of kidney function | f perte durable de la fonction rénale
s fatigue; itching; loss of appetite; nocturia; muscle cramps
e pallor; scratch marks; pitting oedema of both legs
t renal ultrasound > small echogenic kidneys; urinalysis > heavy proteinuria
l creat 210-620; hb 8.4-10.8; k 4.9-6; calc 1.98-2.2
v H72-92 P142-182
d ramipril; darbepoetin; sevelamer
p dietary advice
r hypertension; poorly controlled diabetes; polycystic kidneys
c hyperkalaemia; renal failure; pulmonary oedema
"""

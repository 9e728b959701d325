"""Word lists of the rules: near-synonyms, opposites, and words around a question. Written for this model."""

from __future__ import annotations

# Groups of lemmas that stand for one another in most sentences, by part of speech.
SYNONYMS = {
    "VERB": """begin start commence; buy purchase; end finish; help assist aid; show demonstrate; use employ
utilize; build construct; get obtain receive; need require; happen occur; try attempt; ask request;
allow permit; say state; create make produce; found establish; choose select pick; fix repair;
start launch; answer reply respond; show display; improve enhance; increase raise; reduce decrease
lower cut; shut close; send dispatch; get acquire; explain clarify; discover find; live reside; die
perish; kill slay; win gain; hurt injure wound; destroy ruin demolish; believe think; rescue save;
arrest detain; announce declare; name call; study examine investigate; locate situate; stop halt
cease; prevent avert; hit strike; tell inform; pick choose; vote ballot; hire employ recruit;
remove delete erase; collect gather; cover include; contain include hold; own possess; keep retain
maintain; change alter modify; fall drop; rise climb increase; describe portray depict; publish
release issue; write compose author; lead head; seek pursue; consider regard deem; reject refuse;
resign quit; postpone delay; join unite combine; split divide; link connect; defend protect;
encourage urge; support back; reveal disclose; confirm verify; estimate reckon; appear seem;
observe watch; teach instruct; learn study; earn make; install set-up; speak talk; travel go
journey; cure heal; aim intend; supply provide; expand extend enlarge; continue proceed; gather
assemble; appoint name; accuse charge""",
    "NOUN": """car automobile; movie film; kid child; doctor physician; illness disease sickness; job occupation;
way method; city town; country nation; person individual; reason cause; result outcome consequence;
goal aim objective; mistake error; part portion; area region; kind type sort; beginning start; end
conclusion; name title; amount quantity; price cost; picture image photo; student pupil; teacher
instructor; phone telephone; road street; house home; problem issue; answer reply response; company
firm business; money cash; idea notion; law statute; crime offence; war conflict; accident crash;
attack assault; victory win triumph; defeat loss; worker employee laborer; boss employer; ship
vessel; airplane plane aircraft; gun firearm; speech address; author writer; soldier troop; leader
head chief; job task; home residence; purpose function; benefit advantage; drawback disadvantage;
usage use; role part; event incident; fight battle; lawyer attorney; trash garbage rubbish; holiday
vacation; autumn fall; shop store; sickness illness; population inhabitants; border boundary;
income earnings; meaning significance; proof evidence; rule regulation; site website; laptop
notebook; command instruction; folder directory; program application; people folks; baby infant;
feature characteristic; belief conviction; strategy plan; spouse partner; scholar academic; cop
policeman; riot unrest""",
    "ADJ": """big large; small little tiny; fast quick rapid; smart intelligent clever; rich wealthy; difficult
hard; easy simple; famous renowned well-known; important significant; main primary principal chief;
strange odd weird; wrong incorrect; right correct; whole entire; huge enormous vast; ill sick;
happy glad; angry furious; scared afraid; beautiful pretty; common frequent; ancient old; modern
contemporary; initial first; final last; dangerous hazardous; safe secure; necessary required
essential; enough sufficient; certain sure; different distinct; similar alike; broken damaged; dead
deceased; foreign overseas; injured hurt wounded; free complimentary; cheap inexpensive; expensive
costly; annual yearly; current present; former previous; nearby close; complete full; numerous
many; diverse varied; powerful strong; notable noteworthy; real actual genuine; brave courageous;
quiet silent; possible feasible""",
    "ADV": """quickly rapidly fast; about approximately around roughly; usually normally generally typically;
often frequently; also additionally; nearly almost; mainly mostly primarily chiefly; now currently;
soon shortly; maybe perhaps possibly; completely entirely totally fully; only just merely; first
initially originally; later afterwards subsequently; rarely seldom; specifically particularly
especially; however nevertheless; suddenly abruptly; together jointly; originally initially;
exactly precisely; formerly previously; yearly annually; sometimes occasionally""",
}

# Lemmas whose exchange changes what a sentence says.
OPPOSITES = """more less; most least; most fewest; many few; large small; big small; high low; highest lowest;
increase decrease; rise fall; before after; first last; first second; early late; earliest latest;
north south; east west; northern southern; eastern western; left right; up down; above below;
inside outside; open close; start end; begin end; win lose; buy sell; borrow lend; import export;
enter leave; arrive depart; old new; old young; long short; fast slow; hot cold; warm cool; rich
poor; strong weak; good bad; best worst; better worse; easy difficult; safe dangerous; major minor;
maximum minimum; male female; man woman; boy girl; father mother; brother sister; son daughter;
king queen; husband wife; ancient modern; public private; national international; domestic foreign;
north east; south west; day night; summer winter; morning evening; always never; all some; all
none; every no; with without; for against; over under; near far; same different; love hate; accept
reject; support oppose; attack defend; allow forbid; include exclude; add remove; install
uninstall; enable disable; lock unlock; block unblock; send receive; give take; push pull; teach
learn; employer employee; teacher student; question answer; cause effect; advantage disadvantage;
benefit drawback; strength weakness; success failure; victory defeat; birth death; born die; child
adult; parent child; front back; top bottom; upper lower; inner outer; positive negative; legal
illegal; possible impossible; necessary unnecessary; known unknown; common rare; heavy light; deep
shallow; wide narrow; thick thin; full empty; wet dry; hard soft; dark light; previous next; past
future; former current; increase reduce; expand shrink; gain lose; pass fail; live die; appear
disappear; remember forget; encourage discourage; create destroy; build destroy; raise lower; join
leave; hire fire; win lose; hero villain; friend enemy; civilian military; urban rural; majority
minority; supply demand; profit loss; asset liability; input output; upload download; convert
revert; acquit convict; guilty innocent; arrest release; cause prevent; treat cause; symptom
treatment; cause symptom; cause treatment; oldest youngest; biggest smallest; largest smallest;
longest shortest; fastest slowest; richest poorest; strongest weakest; tallest shortest; monthly
yearly; daily weekly; hour minute; week month; month year; mile kilometre; kilogram pound; dollar
euro; million billion; thousand million; percent million; inch foot; celsius fahrenheit; meter
foot; breakfast dinner; january july; march october; april november; may december; monday thursday;
tuesday saturday; english french; british american; german italian; christian muslim; catholic
protestant; democratic republican; chemical physical; visual acoustic; oral written"""

BEFORE = """Hi, |Hello, |Hello! |Hey, |Good morning, |Sorry to bother you, but |Quick question: |Question: |
I was wondering, |I'm curious, |Just curious: |Please tell me: |Can you tell me: |
Could you tell me, |Could you please tell me: |I'd like to know: |I want to know, |
I would like to ask: |Does anyone know: |Does anybody here know, |Help me out: |
Maybe a silly question, but |I need to know: |Tell me: |Tell me please, |Can someone explain: |
So, |Okay so |Well, |One more thing: |Can anyone help? |I have a question. |Help please! |
Hey there, |Dear all, |For my homework: |In your opinion, |Do you happen to know: |
Would you mind telling me: |I'm trying to find out: |Asking for a friend: """

AFTER = """ Thanks!| Thank you.| Thanks in advance.| Please help.| Any help is appreciated.| please|
 Please answer.| thx| I need to know.| Can you help?| Can anyone tell me?| Cheers.|
 Thank you very much!| Does anyone know?| Please advise.| I can't find it anywhere.| I'm curious.|
 Any ideas?| Please explain.| Let me know."""

CONTRACTIONS = """what is=what's; who is=who's; where is=where's; how is=how's; it is=it's; that is=that's; there
is=there's; do not=don't; does not=doesn't; did not=didn't; is not=isn't; are not=aren't; was
not=wasn't; were not=weren't; cannot=can't; can not=can't; could not=couldn't; would not=wouldn't;
should not=shouldn't; will not=won't; have not=haven't; has not=hasn't; I am=I'm; I have=I've; they
are=they're; we are=we're; you are=you're; I would=I'd; I will=I'll; he is=he's; she is=she's; it
will=it'll; they have=they've; when is=when's; why is=why's"""

# Spellings of one thing. Longer ones first.
SPELLINGS = """United States of America=USA; United States=U.S.; United States=US; United Kingdom=UK; United
Kingdom=U.K.; United Nations=UN; European Union=EU; percent=%; per cent=percent; World War II=the
Second World War; World War I=the First World War; World War II=WWII; television=TV;
approximately=about; approximately=around; as well as=and; in order to=to; because=since;
however=but; for example=for instance; such as=like; due to=because of; prior to=before;
following=after; more than=over; a lot of=many; less than=under; at least=no fewer than; a number
of=several; take place=happen; took place=happened; be able to=can; kilometres=km; kilometers=km;
kilograms=kg; Doctor=Dr.; Mister=Mr.; New York City=NYC; Los Angeles=LA; President=Pres.;
versus=vs.; and=&; okay=OK; organisation=organization; colour=color; centre=center;
theatre=theater; programme=program; labour=labor; defence=defense; favourite=favorite; metre=meter;
traveller=traveler; behaviour=behavior; neighbour=neighbor; realise=realize; analyse=analyze;
licence=license; in addition=also; nearly=almost; until=till; although=though; toward=towards;
among=amongst; while=whereas; as a result=therefore"""

NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty"""

# What a question may ask for besides: a narrower question is another question.
RESTRICTIONS = """ in {place}| in {place}| in {year}| before {year}| after {year}| for children| for women|
 for beginners| in winter| at night| for free| without a licence| on weekends| in the Middle Ages|
 during the war| according to {name}| under {name}| outside {place}| for the first time|
 for the last time| per month| at home| by train| with a disability| on a Mac| with no experience|
 as a student| after surgery| for a small company| in the second half| on average| by law| online"""

WH_CHANGES = {
    "when": ("where", "why", "how", "who"),
    "where": ("when", "why", "how"),
    "who": ("when", "where", "why", "what"),
    "why": ("when", "how", "where"),
    "how": ("why", "when", "where"),
    "what": ("who", "why", "when"),
    "which": ("how many", "whose"),
}


def groups(text: str) -> list[list[str]]:
    """The groups of a list above; `-` stands for a blank inside a word where there is one in speech."""
    return [part.split() for part in text.replace("\n", " ").split(";") if part.split()]


def choices(text: str) -> list[str]:
    """The choices of BEFORE, AFTER and RESTRICTIONS, with their blanks."""
    return [part for part in text.replace("|\n", "|").replace("\n", " ").split("|") if part.strip()]


def equations(text: str) -> list[tuple[str, str]]:
    """The (long, short) pairs of CONTRACTIONS and SPELLINGS."""
    parts = [part.strip().split("=") for part in text.replace("\n", " ").split(";")]
    return [(a.strip(), b.strip()) for a, b in parts]

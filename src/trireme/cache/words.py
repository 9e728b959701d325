"""The English words that rules know: function words, negators, opposites, units, kinds of questions."""

from __future__ import annotations


def split(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


FUNCTION_WORDS = split(
    "a an the this that these those some any each every all both either neither no none other "
    "another such same "
    "i you he she it we they me him her us them my your his its our their mine yours hers ours theirs who whom "
    "whose which what when where why how there here and or but nor so yet if because although though while as "
    "than then of in on at by to from for with without about into onto over under between among through during "
    "before after above below against toward towards off out up down per via is are was were be "
    "been being am do "
    "does did done doing have has had having can could will would shall should may might must ought not isn't "
    "aren't wasn't weren't don't doesn't didn't can't couldn't won't wouldn't shouldn't it's what's "
    "who's where's "
    "how's that's there's i'm i've i'd you're they're let's please tell give explain describe list name"
)
# Words of other languages that are written in Latin letters, and none of English.
FOREIGN_WORDS = split(
    "el los las un una unos del que por para con como cuál qué cómo dónde quién está son es y le "
    "les des du une "
    "dans est sont quel quelle comment pourquoi où qui je vous nous der das ein eine einen ist sind wie was "
    "warum wer welche welcher und oder nicht il lo gli della di che perché dove quale è o os uma não como onde "
    "het een van wat hoe waarom zijn och är hur vad det og hvad hvordan jest jak co gdzie dlaczego ve bir "
    "ne"
) - {"was", "o", "die", "do", "in", "an", "am", "as", "me", "no", "co", "son", "lo", "es", "ne", "y"}

NEGATORS = split(
    "not no never none nobody nothing nowhere neither nor without except excluding unless barely "
    "lack lacks lacking lacked fail fails failed failing refuse refuses refused avoid avoids "
    "avoided avoiding prevent prevents prevented preventing non"
)
# What "no" is among slips of the tongue: no, wait; no I mean.
INTERJECTION_AFTER_NO = split("wait sorry i make rather uh um actually scratch")
RESTRICTIONS = split("only just solely exclusively merely")

# Pairs of words of which one text has one and the other the other: then they ask for different things.
OPPOSITES: tuple[tuple[str, str], ...] = tuple(
    tuple(first.split("/"))  # type: ignore[misc]
    for first in sorted(
        split(
            "more/less more/fewer most/least most/fewest maximum/minimum max/min maximise/minimise "
            "maximize/minimize "
            "increase/decrease increase/reduce increases/decreases increased/decreased increasing/decreasing "
            "raise/lower raise/reduce grow/shrink rise/fall gain/lose before/after first/last first/second "
            "first/final earliest/latest early/late earlier/later start/end start/stop start/finish begin/end "
            "begins/ends began/ended beginning/end started/ended started/stopped open/close opened/closed "
            "enable/disable enabled/disabled enabling/disabling install/uninstall installing/uninstalling "
            "upload/download uploading/downloading import/export importing/exporting "
            "encrypt/decrypt encode/decode "
            "encoding/decoding compress/decompress compress/extract mount/unmount lock/unlock "
            "add/remove add/delete "
            "add/subtract adding/removing multiply/divide insert/delete create/delete create/destroy "
            "push/pull push/pop send/receive sends/receives sent/received sender/receiver buy/sell "
            "buying/selling "
            "bought/sold buyer/seller lend/borrow give/take win/lose won/lost winner/loser winning/losing "
            "accept/reject accepted/rejected allow/forbid allow/block allow/prevent permit/forbid "
            "attack/defend "
            "love/hate like/dislike like/hate pass/fail succeed/fail success/failure connect/disconnect "
            "turn_on/turn_off on/off up/down upstairs/downstairs upper/lower above/below over/under top/bottom "
            "left/right inside/outside indoor/outdoor indoors/outdoors internal/external front/back "
            "north/south east/west north/east north/west south/east south/west northern/southern "
            "eastern/western "
            "high/low higher/lower highest/lowest tall/short taller/shorter tallest/shortest "
            "big/small big/little "
            "bigger/smaller biggest/smallest large/small larger/smaller largest/smallest long/short "
            "longer/shorter "
            "longest/shortest wide/narrow thick/thin deep/shallow fast/slow faster/slower fastest/slowest "
            "strong/weak stronger/weaker strongest/weakest heavy/light heavier/lighter heaviest/lightest "
            "hot/cold hotter/colder hottest/coldest warm/cool warmer/cooler wet/dry hard/soft "
            "hard/easy easy/difficult "
            "easiest/hardest easier/harder good/bad better/worse best/worst positive/negative "
            "old/new old/young "
            "older/newer older/younger oldest/newest oldest/youngest rich/poor richest/poorest cheap/expensive "
            "cheaper/pricier cheapest/priciest safe/dangerous safest/riskiest full/empty true/false yes/no "
            "male/female man/woman men/women boy/girl boys/girls husband/wife father/mother son/daughter "
            "brother/sister uncle/aunt king/queen prince/princess actor/actress he/she his/her "
            "boyfriend/girlfriend "
            "day/night morning/evening morning/afternoon afternoon/evening weekday/weekend summer/winter "
            "spring/autumn spring/fall sunrise/sunset am/pm advantage/disadvantage "
            "advantages/disadvantages pro/con "
            "pros/cons benefits/drawbacks benefit/drawback benefits/risks advantages/drawbacks "
            "strengths/weaknesses "
            "cause/effect causes/effects causes/symptoms cause/cure causes/treatment symptoms/treatment "
            "causes/treatments prevent/treat prevent/cause prevention/treatment diagnosed/treated "
            "question/answer input/output read/write reads/writes client/server public/private "
            "employer/employee teacher/student parent/child parents/children guest/host ancient/modern "
            "domestic/foreign domestic/international import/exports supply/demand profit/loss asset/liability "
            "always/never all/some all/none everyone/nobody everything/nothing some/none many/few "
            "majority/minority "
            "include/exclude includes/excludes inclusive/exclusive together/apart same/different "
            "synchronous/asynchronous sync/async odd/even prime/composite horizontal/vertical "
            "ascending/descending "
            "forward/backward forwards/backwards clockwise/counterclockwise arrive/depart arrival/departure "
            "arrives/departs enter/exit entrance/exit birth/death born/died born/buried marry/divorce "
            "married/divorced "
            "freeze/melt freezing/boiling boil/freeze alive/dead life/death war/peace liberal/conservative "
            "positively/negatively poorer/richer long-term/short-term excluded/included slow/speed little/much "
            "concentrate/ignore improve/worsen middle/top hire/fire strengthen/weaken "
            "gross/net nominal/real theory/practice fresh/frozen raw/cooked"
        )
    )
)
PREFIXES = (
    "un",
    "in",
    "im",
    "il",
    "ir",
    "dis",
    "non",
    "mis",
    "de",
    "anti",
    "pre",
    "post",
    "sub",
    "over",
    "under",
)

# Unit -> its one name.
UNITS: dict[str, str] = {
    spelling: names.split("/")[0]
    for names in split(
        "kilometre/kilometer/kilometres/kilometers/km/kms metre/meter/metres/meters "
        "centimetre/centimeter/centimetres/centimeters/cm millimetre/millimeter/millimetres/millimeters/mm "
        "mile/miles/mi foot/feet/ft inch/inches yard/yards/yd nautical kilogram/kilograms/kg/kgs/kilo/kilos "
        "gram/grams/gramme milligram/milligrams/mg microgram/micrograms/mcg tonne/tonnes ton/tons "
        "pound/pounds/lb/lbs ounce/ounces/oz stone litre/liter/litres/liters "
        "millilitre/milliliter/millilitres/milliliters/ml gallon/gallons/gal pint/pints quart/quarts cup/cups "
        "tablespoon/tablespoons/tbsp teaspoon/teaspoons/tsp celsius/centigrade/°c fahrenheit/°f kelvin "
        "second/seconds/sec/secs minute/minutes/min/mins hour/hours/hr/hrs day/days week/weeks month/months "
        "year/years/yr/yrs decade/decades century/centuries dollar/dollars/usd/$ euro/euros/eur/€ gbp/£ "
        "yen/jpy/¥ yuan/rmb/cny rupee/rupees/inr/₹ cent/cents percent/%/percentage watt/watts "
        "kilowatt/kilowatts/kw megawatt/megawatts/mw volt/volts ampere/amperes/amp/amps ohm/ohms joule/joules "
        "calorie/calories/kcal hertz/hz megahertz/mhz gigahertz/ghz bit/bits byte/bytes kilobyte/kilobytes/kb "
        "megabyte/megabytes/mb gigabyte/gigabytes/gb terabyte/terabytes/tb mph kph/kmh knot/knots acre/acres "
        "hectare/hectares radian/radians pascal/pascals psi bar/bars newton/newtons"
    )
    for spelling in names.split("/")
}
_MONTHS = (
    "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
    "september sep sept", "october oct", "november nov", "december dec",
)  # fmt: skip
MONTHS = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
WEEKDAYS = split("monday tuesday wednesday thursday friday saturday sunday")
# Months that are words too: only in capitals.
WORD_MONTHS = frozenset({"may", "march", "mar", "jan", "jun", "sep"})

# Names that are written in two ways.
ALIASES = {
    "us": "united states", "u.s": "united states", "u.s.": "united states", "usa": "united states",
    "u.s.a": "united states", "u.s.a.": "united states", "america": "united states",
    "uk": "united kingdom", "u.k": "united kingdom", "u.k.": "united kingdom", "britain": "united kingdom",
    "un": "united nations", "u.n.": "united nations", "eu": "european union", "e.u.": "european union",
    "ussr": "soviet union", "u.s.s.r.": "soviet union", "nyc": "new york city", "wwi": "world war 1",
    "wwii": "world war 2", "ww1": "world war 1", "ww2": "world war 2", "ai": "artificial intelligence",
    "ml": "machine learning",
}  # fmt: skip

# What is asked for; texts that both say it must say the same.
ASKED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("count", ("how many", "what number", "the number of")),
    ("amount", ("how much", "what amount", "the amount of", "the cost of", "the price of", "what price")),
    ("length", ("how long", "what length", "the length of", "how far", "the distance")),
    ("age", ("how old", "what age", "the age of", "at what age")),
    ("often", ("how often", "how frequently", "what frequency")),
    ("size", ("how big", "how large", "how tall", "how high", "how deep", "how wide", "how heavy")),
    ("time", ("when", "what year", "which year", "what date", "what time", "what day", "what month", "what century",
              "what decade", "in what year", "the date of", "the year",
              "how long until", "how long before", "how soon")),
    ("place", ("where", "what country", "which country", "what city", "which city", "what state", "which state",
               "what place", "what location", "the location of", "in what country", "in what city")),
    ("person", ("who", "whom", "whose", "which person", "what person")),
    ("reason", ("why", "what reason", "the reason", "how come", "for what reason", "what caused", "what causes")),
)  # fmt: skip
PAST = split("was were did wasn't weren't didn't had hadn't")
PRESENT = split("is are am do does isn't aren't don't doesn't has have hasn't haven't")
FUTURE = split("will won't shall going")
MODALS = {
    "can": "can", "could": "can", "should": "should", "ought": "should", "must": "must", "will": "will",
    "would": "will", "may": "may", "might": "may",
}  # fmt: skip
# Words around which two sides may be exchanged without another meaning.
SYMMETRIC = split(
    "and or between versus vs vs. compare compared comparison difference differences differ differs different "
    "similar similarities both relation relationship distance"
)
# A name behind one of them says where or when, wherever it stands.
ADJUNCTS = split("in at on during near within")
DIRECTIONS = split("to into than before after from")

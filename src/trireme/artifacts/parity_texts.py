"""Fixed texts of the parity gate: many scripts and lengths, from one letter to beyond 600 tokens."""

from __future__ import annotations

_SHORT = (
    "a",
    "7",
    "?",
    "oar",
    "Hello",
    "one two",
    "The harbour is closed.",
    "How deep is the channel at low tide?",
    "WHY DO SOME ENGINES START ONLY WHEN THEY ARE COLD",
    "   spaces   before,   between\tand after   ",
    "line one\nline two\r\nline three\n\n\nline seven",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "x1 y2 z3 -- 3.14159, 2,718.28; 1e-9 and 0x7FFF",
    "2026-11-23T08:15:00Z | 192.0.2.17 | GET /v2/health/ready | 200 | 12 ms",
    "+44 20 7946 0018, room 12b, fee: 1,250.00 EUR (20 % off)",
    "naïve café, Zoë's jalapeño, Łódź, Ærøskøbing, smörgåsbord",
    "def mean(xs):\n    return sum(xs) / len(xs) if xs else 0.0",
    "SELECT id, title FROM books WHERE year > 1990 AND title LIKE '%sea%' ORDER BY \"year\" DESC;",
    "for (int i = 0; i < n; ++i) { total += a[i] * b[i]; } // dot product",
    '{"name": "rope", "length_m": 24.5, "tags": ["hemp", "tarred"], "in_stock": true}',
    "<p class=\"note\">Keep <b>dry</b> &amp; away from <a href='#fire'>flames</a>.</p>",
    "E = mc², a ≤ b ⇒ ∀x ∈ ℝ: x² ≥ 0, ∑ 1/n² = π²/6",
    "← ↑ → ↓ • § ¶ © ™ № ½ ¾ … “quoted” ‘single’ – dash — long dash",
    "snake_case_name, camelCaseName, kebab-case-name, path/to/file.tar.gz, user@example.org",
    "!!! ??? ... --- *** ((())) [[[]]] {{{}}}",
    "lorem",
    "unbelievably antidisestablishmentarian counterrevolutionaries",
)
_SCRIPTS = (
    "Корабль вышел из гавани на рассвете и к полудню уже скрылся за горизонтом.",
    "Яка вода закипає швидше: прісна чи солона?",
    "Το πλοίο έφυγε από το λιμάνι πριν ξημερώσει.",
    "غادرت السفينة الميناء قبل شروق الشمس، وكان البحر هادئًا.",
    "کشتی پیش از طلوع آفتاب بندر را ترک کرد.",
    "הספינה עזבה את הנמל לפני הזריחה והים היה שקט.",
    "जहाज़ सूरज निकलने से पहले बंदरगाह से निकल गया।",
    "সূর্য ওঠার আগেই জাহাজটি বন্দর ছেড়ে গেল।",
    "சூரியன் உதிக்கும் முன் கப்பல் துறைமுகத்தை விட்டுச் சென்றது.",
    "这艘船在日出之前离开了港口,海面非常平静。",
    "船在日出前離港,風浪不大。",
    "船は夜明け前に港を出て、正午には見えなくなった。",
    "コンピュータのメモリは足りていますか?",
    "배는 해가 뜨기 전에 항구를 떠났고 바다는 잔잔했다.",
    "เรือออกจากท่าก่อนรุ่งสางและทะเลก็สงบมาก",
    "Con tàu rời cảng trước bình minh, biển rất lặng.",
    "Gemi gün doğmadan limandan ayrıldı; deniz çok sakindi.",
    "Das Schiff verließ den Hafen vor Sonnenaufgang; die See war ungewöhnlich ruhig.",
    "Le navire a quitté le port avant l'aube, et la mer était très calme.",
    "El barco salió del puerto antes del amanecer y el mar estaba en calma.",
    "Նավը նավահանգստից դուրս եկավ արևածագից առաջ։",
    "გემმა ნავსადგური გამთენიისას დატოვა.",
    "መርከቡ ከፀሐይ መውጫ በፊት ወደቡን ለቆ ወጣ።",
    "mixed: 船 and корабль and πλοίο are three words for one thing, a ship",
)
_PARAGRAPH = (
    "A tide mill stores the rising water of the sea behind a dam and lets it out over a wheel when the tide "
    "has fallen. The miller works by the moon and not by the clock: two runs a day, each about fifty minutes "
    "later than the one of the day before. Such mills need no river, only a bay with a narrow mouth and a "
    "good difference between high and low water. "
)
_REPORT = (
    "The pump was taken apart on the third day. Two of its six bearings were worn beyond the limit of 0.08 mm, "
    "the seal on the pressure side had hardened, and the impeller showed pitting along the trailing edges. "
    "After the parts had been replaced, the flow at 1,450 rpm rose from 31 to 44 litres per second while the "
    "motor drew 6 per cent less current. The log recommends a check every 2,000 hours. "
)
_LONG = (
    _PARAGRAPH,
    _REPORT,
    _PARAGRAPH + _REPORT,
    _REPORT + "Остальные насосы проверят весной. " + _PARAGRAPH,
    (_PARAGRAPH + _REPORT) * 2,
    (_REPORT + _PARAGRAPH) * 4,
    "water " * 640,
    "水" * 300,
    "Строка журнала: всё в порядке. " * 30,
    "a b c d e f g h i j " * 12,
)

TEXTS: tuple[str, ...] = _SHORT + _SCRIPTS + _LONG

# A query and passages from very near to unrelated, for the order of a reranker's scores.
PAIRS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "When does a tide mill run?",
        (
            _PARAGRAPH,
            "Tide mills run twice a day, after high water, when the stored water is let out.",
            "A windmill stops when the wind drops.",
            _REPORT,
            "The moon moves the tides.",
            "Flour is sold in paper bags of one kilogram.",
            "x",
            _PARAGRAPH + _REPORT,
        ),
    ),
    (
        "why was the pump repaired",
        (
            _REPORT,
            "Worn bearings and a hardened seal made the repair of the pump necessary.",
            "Pumps move liquids.",
            "The library opens at nine.",
            "水泵的轴承磨损了。",
            _PARAGRAPH,
            "Насос разобрали на третий день, потому что подшипники износились.",
            "SELECT name FROM pumps WHERE state = 'repaired'",
        ),
    ),
    (
        "船はいつ港を出ましたか",
        (
            _SCRIPTS[11],
            _SCRIPTS[9],
            "The ship left before sunrise.",
            "港には船が三隻ある。",
            "今日は雨が降っている。",
            "7",
            _SCRIPTS[0],
            _REPORT,
        ),
    ),
    (
        "maximum length of a rope in stock, in metres, for a sailing boat of eight metres with two masts",
        (
            '{"name": "rope", "length_m": 24.5, "tags": ["hemp", "tarred"], "in_stock": true}',
            "Our longest rope measures 24.5 metres.",
            "The boat has two masts and is eight metres long.",
            "Ropes are made of hemp, cotton or nylon.",
            "def longest(ropes): return max(rope.length for rope in ropes)",
            "The bakery is closed on Mondays.",
            _PARAGRAPH,
            "water " * 640,
        ),
    ),
)

"""Where sentences of other languages than English end: a rule per mark and script, abbreviations by language."""

from __future__ import annotations

import re
from collections.abc import Iterator

_CLOSING = "\"'”’“»›)\\]*_`」』）"
# Marks that end a sentence before a space or at the end; those that need none; a guillemet after a space (French).
_END = re.compile(
    rf"(?<![.!?…])[.!?…]+(?:[{_CLOSING}]|[ \u00a0\u202f]»)*(?=\s|$)"
    rf"|[。！？｡．।॥։።។။؟۔]+(?:[{_CLOSING}]|[ \u00a0\u202f]»)*"
)
# Greek asks with what looks like a semicolon.
_GREEK_END = re.compile(rf"{_END.pattern}|[;\u037e][{_CLOSING}]*(?=\s|$)")
# Thai and Lao have no mark: a space after so many letters is taken for an end.
_UNMARKED = re.compile(rf"{_END.pattern}|(?<=[\u0e01-\u0eff]{{12}})[ \u00a0]+|\n+")
UNMARKED_LETTERS = 40
# Japanese goes on after what was said: 「…？」と.
_GOES_ON = ("と", "って")
_WORD_BEFORE = re.compile(r"[^\s(\[\"“„«‘'/—–]+$")
_NEXT_WORD = re.compile(r"[\s\u00a0]*([\"'“„«‘(\[*¿¡—–-]*)\s*([^\s,;:.!?]*)")
_ACRONYM = re.compile(r"(?:\w\.)+\w")
_ROMAN = re.compile(r"[IVXLC]+")
LONGEST_SHORTENING = 16

# A number with a period is an ordinal in these.
_ORDINALS = frozenset("cs da de et fi hr hu is lv no pl sk sl sr tr".split())  # noqa: SIM905

# Behind these a sentence goes on, unless a word follows that likes to begin one.
_SHORTENED = {
    "ar": "د أ م ص ق هـ",
    "cs": "tzv např popř resp tj atd apod aj č str sv ing dr mgr prof",
    "da": "bl.a f.eks ca dvs evt nr osv jf kl pkt m.m mv dr hr fr stk",
    "de": "abb abs allg art aufl bd bzgl bspw bzw ca co dgl dipl dr ebd etc evtl ff fr ggf hl hr hrsg inkl"
    " ing jh jr kap mio mrd nr o.ä prof s sog st std str tel u.a u.ä usw u.u v.a vgl vs z zt zzgl geb"
    " gest d u o",
    "el": "κ κα κος δρ π.χ δηλ κ.λπ κλπ αρ σελ βλ",
    "es": "sr sra srta dr dra d dña ud uds ee uu pág págs núm art av avda ej etc cap fig vol p pp st sta sto"
    " gral ing lic prof aprox tel ss mm",
    "fi": "esim ks mm ns ym jne tms n eli s klo puh tri prof vrt",
    "fr": "m mm mme mmes mlle dr pr me st ste art cf chap éd etc ex fig hab ibid n° no p pp par réf tél vol"
    " av apr env jr min max bd l",
    "hi": "डॉ प्रो श्री सुश्री श्रीमती पं कु रु सं पृ",
    "hu": "dr ifj id ill kb pl stb u.n ún sz old vö",
    "id": "dr drs ir prof sdr jl no hlm tgl dll dsb dst",
    "it": "sig sigg sig.ra dott dott.ssa dr prof prof.ssa ing avv arch on s ss art artt pag pagg p pp cap cfr"
    " ecc es fig n nn vol tel ca d.c a.c",
    "nl": "a.d bijv blz bv ca dhr dr drs enz etc evt fig incl ing ir jl m.a.w mevr mr mw nl nr o.a p prof"
    " resp st t/m tel vgl vs z.g zgn",
    "no": "bl.a f.eks ca dvs evt nr osv jf kl m.m mv dr prof",
    "pl": "al art dn dr hab godz im inż itd itp m.in mgr np nr ok os pkt pl pn por poz prof r rys s str św"
    " tel tj tys tzn tzw ul ur w wg zob zł",
    "pt": "sr sra srta dr dra d prof profa eng art av cap ed etc ex fig n nº p pág págs pp r s séc tel vol"
    " aprox",
    "ro": "art dl d-na d-l dr etc fig nr p pag prof str tel vol ș.a șt cca ex",
    "ru": "г гг в вв т тт е д др п пп пр см ср рис табл стр с ст гл им ул обл руб коп тыс млн млрд напр проф"
    " акад инж ок р кв корп тел чел экз изд ред",
    "sv": "bl.a ca d.v.s dvs e.kr f.kr etc f.d fr.o.m kl m.fl m.m nr o.s.v osv p.g.a resp s.k st t.ex t.o.m"
    " tel dr prof jfr",
    "tr": "dr doç prof av st vb vs yy bkz örn no tel sn",
    "uk": "р рр ст см рис табл стор с т тт п пп вул обл грн коп тис млн млрд напр проф акад ін ім м д др",
}
_STARTERS = {
    "de": "aber als am auch auf bei da dann das dem den der des die dies diese dieser doch ein eine einen er"
    " es für ich ihr im in ist man mit nach nur ob seit sie so und von vor wann was wenn wer wie wir wo"
    " zu zum zur",
    "es": "a al como con cuando de desde el ella ellos en entre es esta este esto hay la las lo los no para"
    " pero por que se si sin su también un una y",
    "fr": "a à au aux avec ce ces cette comme dans de depuis des elle elles en et il ils je la le les leur"
    " mais nous on par pour quand que qui sa selon si son sur un une vous",
    "it": "a al alla che chi con da dal dei del della di e è gli i il in la le lo ma nel nella non per quando"
    " se si un una",
    "nl": "als bij dat de deze die dit een en er het hij ik in is maar met na nu om ook op te van voor wat we"
    " wie ze zij",
    "pl": "a ale ci co do gdy i ich jak jest kto ma na nie o od po pod są ta tak te to w we z za że",
    "pt": "a ao aos as com como da de depois do e é ela ele em esta este eu mas na não nas no nos o os para"
    " pela pelo por quando que se sem um uma",
    "ru": "а без в во все для до его ее если здесь и из их к как когда кто мы на не но о он она они от по"
    " после при с со так там то у что эта эти это этот я",
    "sv": "alla att av de den det där efter en ett för han hon i jag man med men när och om på som så till"
    " vad var vem vi",
}
_SHORT = {language: frozenset(words.split()) for language, words in _SHORTENED.items()}
_START = {language: frozenset(words.split()) for language, words in _STARTERS.items()}


def sentence_ends(text: str, language: str) -> Iterator[int]:
    """The offsets in `text` behind the sentences of a language, by its code; the last one may be missing.

    Pure. Unlike English sentences, which are `rag.sentences`' and the chunker's as they were.
    """
    pattern = {"el": _GREEK_END, "th": _UNMARKED, "lo": _UNMARKED}.get(language, _END)
    first = 0
    for found in pattern.finditer(text):
        if _ends(text, first, found, language):
            yield found.end()
            first = found.end()


def _ends(text: str, first: int, found: re.Match[str], language: str) -> bool:
    """Whether the mark ends the sentence that began at `first`."""
    mark = found.group()
    if mark.isspace():
        return "\n" in mark or found.start() - first >= UNMARKED_LETTERS
    if mark[0] not in ".!?…;":
        return not (mark[-1] in "」』" and text.startswith(_GOES_ON, found.end()))
    next_word = _NEXT_WORD.match(text, found.end())
    opening, following = next_word.groups() if next_word else ("", "")
    # A word that begins small goes on.
    if following[:1].islower() and not opening:
        return False
    if mark[0] != "." or mark.startswith("..") or not opening + following:
        return True
    before = _WORD_BEFORE.search(text[max(first, found.start() - LONGEST_SHORTENING) : found.start()])
    word = before.group() if before else ""
    is_number = (word.isdecimal() and len(word) <= 2) or bool(_ROMAN.fullmatch(word))
    goes_on = is_number and language in _ORDINALS
    goes_on = goes_on or (len(word) == 1 and word.isalpha()) or bool(_ACRONYM.fullmatch(word))
    goes_on = goes_on or word.lower() in _SHORT.get(language, frozenset())
    goes_on = goes_on or (language == "de" and word.endswith("str"))
    is_initial = len(following) == 1 and text.startswith(".", next_word.end() if next_word else 0)
    return not goes_on or (not is_initial and following.lower() in _START.get(language, frozenset()))

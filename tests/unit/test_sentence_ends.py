"""Sentences of other languages, on a set made by hand: one text a language, its sentences apart."""

from itertools import pairwise

import pytest

from trireme.sentence_ends import sentence_ends

SENTENCES = {
    "de": [
        "Das Treffen ist am 3. Mai, z. B. um 10 Uhr.",
        "Dr. Müller kommt ggf. später, vgl. S. 12.",
        "Der Hafen, d. h. der alte, schließt um ca. 18 Uhr.",
        "Ludwig XIV. regierte lange.",
        "„Geht das?“",
        "Ja!",
        "Er wog 3.500 kg usw. Das war viel.",
        "Prof. A. Schmidt wohnt in der Hauptstr. 5.",
    ],
    "fr": [
        "M. Dupont arrive le 1er mai.",
        "Voir p. ex. l'art. 3 du code.",
        "Est-ce vrai ?",
        "Oui !",
        "Mme Martin, cf. fig. 2, est d'accord.",
        "« Bien sûr. »",
        "Il part à 10 h.",
        "Le Dr. Morel suit, etc.",
    ],
    "es": [
        "El Sr. García vive en EE. UU. desde 1990.",
        "¿Quién puede firmar?",
        "¡Nadie!",
        "La Dra. Ruiz llegó a las 10 a. m. del lunes.",
        "Véase la pág. 3.",
        "Cuesta 3.50 euros.",
    ],
    "it": [
        "Il sig. Rossi arriva alle 6.",
        "Si veda l'art. 3, cfr. pag. 12.",
        "Chi può firmare?",
        "La dott.ssa Bianchi, ecc.",
    ],
    "pt": [
        "O Sr. Silva mora na R. Augusta.",
        "Ver pág. 3.",
        "Quem assina?",
        "Ninguém!",
        "O porto fecha às 6.",
    ],
    "nl": ["Dhr. Jansen komt o.a. morgen.", "Zie blz. 3, bijv. de kaart.", "Wie tekent?", "De haven sluit."],
    "ru": [
        "Порт основан в 1703 г. Петром.",
        "См. рис. 2, т. е. план.",
        "А. С. Пушкин родился здесь.",
        "Кто знает?",
        "Цена 5 тыс. руб. в год.",
        "Он закрыт.",
    ],
    "pl": [
        "Umowa z dn. 3. maja, np. ta.",
        "Dr Nowak, por. str. 5, milczy.",
        "Kto podpisze?",
        "Ul. Długa 5 itd.",
    ],
    "sv": ["Mötet är kl. 10, t.ex. i dag.", "Se s. 5, jfr nr. 3.", "Vem skriver under?", "Hamnen stänger."],
    "tr": ["Toplantı 3. Mayıs günü.", "Dr. Yılmaz geldi, bkz. Tablo.", "Kim imzalar?", "Liman kapanır."],
    "el": ["Ποιος μπορεί να υπογράψει;", "Ο κ. Παππάς.", "Το λιμάνι κλείνει, π.χ. τώρα."],
    "hi": ["बंदरगाह रात में बंद होता है।", "कौन जानता है?", "डॉ. शर्मा जानते हैं।", "यह सुबह खुलता है॥"],
    "ar": ["من يحق له توقيع العقد؟", "المدير فقط.", "د. أحمد هو المدير.", "شكراً!"],
    "ur": ["بندرگاہ رات کو بند ہوتی ہے۔", "صبح کھلتی ہے۔", "کون جانتا ہے؟"],
    "zh": ["港口夜间关闭。", "早上六点重新开放！", "谁知道？", "他说：“没有人。”", "温度是3.5度。"],
    "ja": ["港は夜に閉まります。", "朝六時に開きます！", "「本当ですか？」と彼は聞いた。", "「はい。」"],
    "ko": ["항구는 밤에 닫힙니다.", "누가 서명합니까?", "3.5도입니다."],
    "th": ["ท่าเรือปิดตอนกลางคืนและเปิดอีกครั้งเวลาหกโมงเช้า", "ไม้พายเก็บไว้ในโรงเก็บหลังท่าเรือ"],
}
# Written without a space between.
UNSPACED = {"zh", "ja"}
# What no rule tells: "Das war viel." begins with a word that likes to, and does end "usw."
BROKEN = {"Er wog 3.500 kg usw. Das war viel.": ["Er wog 3.500 kg usw.", "Das war viel."]}


def split(text: str, language: str) -> list[str]:
    ends = [0, *sentence_ends(text, language), len(text)]
    return [text[a:b].strip() for a, b in pairwise(ends) if text[a:b].strip()]


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_end_where_they_were_written_to_end(language):
    joined = ("" if language in UNSPACED else " ").join(SENTENCES[language])
    expected = [part for one in SENTENCES[language] for part in BROKEN.get(one, [one])]
    assert split(joined, language) == expected


def test_a_long_row_of_marks_is_looked_at_once():
    assert list(sentence_ends("." * 200_000, "de")) == [200_000]
    assert list(sentence_ends("a. " * 50_000, "de"))[-1:] == [149_999]

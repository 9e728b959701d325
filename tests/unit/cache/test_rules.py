"""Rules over pairs of questions that must, and that must not, pass."""

import random
import time

import pytest

from trireme.cache.rules import RULES, find_difference, is_readable

# Pairs of one meaning that no rule may part.
SAME = """
What is the capital of France? | Which city is the capital of France?
What's the capital of France? | What is the capital of France?
What is the capital of France? | What is France's capital?
How do I install Python on Windows? | How can I install Python on Windows?
How many people live in Germany? | What is the number of people living in Germany?
When was the Eiffel Tower built? | In what year was the Eiffel Tower built?
Where is the Nile? | In which country is the Nile?
Who wrote Hamlet? | Which person wrote Hamlet?
Why do cats purr? | What is the reason that cats purr?
How tall is Mount Everest? | What is the height of Mount Everest?
What is the difference between cats and dogs? | What is the difference between dogs and cats?
How do dogs differ from cats and wolves? | How do dogs differ from wolves and cats?
Is Paris or London larger? | Is London or Paris larger?
How long does it take to boil 2 eggs? | How long does it take to boil two eggs?
Who won World War II? | Who won World War 2?
What happened on January 5, 1990? | What happened on Jan 5, 1990?
How far is 5 km in miles? | How many miles are 5 kilometres?
How much is $5 in euros? | How much are 5 dollars in euros?
What is 20% of 50? | What is 20 percent of 50?
Is it possible to fly without wings? | Can one fly without wings?
Why can't penguins fly? | Why can not penguins fly?
Why don't penguins fly? | Why do penguins not fly?
How do I get from home to work? | How do I get to work from home?
How can I convert miles to km? | How to convert miles to kilometers?
Did Brutus kill Caesar? | Was Caesar killed by Brutus?
What does `ls -la` do? | Explain what `ls -la` does
What is the meaning of "carpe diem"? | What does "carpe diem" mean?
What is NATO? | Explain NATO
How is the weather on Mars in winter? | On Mars, how is the weather in winter?
Where did Marie Curie study in Paris? | In Paris, where did Marie Curie study?
What are the symptoms of flu? | Which symptoms does flu have?
How do you make bread? | What is the way to make bread?
Who was the first president of the United States? | Who was the first US president?
What is machine learning? | what is machine learning
WHAT IS MACHINE LEARNING IN SHORT? | What is machine learning in short?
How does the A100 compare to the H100? | How do the A100 and the H100 compare?
What does HTTP 404 mean? | What is the meaning of HTTP 404?
How do I sort a list in C++? | How can a list be sorted in C++?
Which planet is the largest? | What is the largest planet?
How many days are in a year? | What is the number of days in a year?
What is the population of New York City? | How many people live in New York City?
How old was Einstein when he died? | At what age did Einstein die?
How often should plants be watered? | How frequently should plants be watered?
How much does a blue whale weigh? | What is the weight of a blue whale?
What is the boiling point of water in Celsius? | At how many degrees Celsius does water boil?
Explain photosynthesis to a child | How would you explain photosynthesis to a child?
What are good names for a cat? | Which names are good for a cat?
Why is the sky blue? | What is the reason for the sky being blue?
How do vaccines work? | What is the way in which vaccines work?
Name the longest river in Africa | What is the longest river in Africa?
What is the speed of light? | How fast does light travel?
Who painted the Mona Lisa? | By whom was the Mona Lisa painted?
"""
# Pairs of another meaning, by the rule that must part them.
OTHER = {
    "literals": """
What does `ls -l` do? | What does `ls -a` do?
What does "carpe diem" mean? | What does "carpe noctem" mean?
What is on https://a.example/x? | What is on https://a.example/y?
Who is ann@acme.example? | Who is bob@acme.example?
How fast is the A100? | How fast is the H100?
What does git --force do? | What does git --soft do?
What is foo_bar used for? | What is foo_baz used for?
What is in /etc/passwd? | What is in /etc/shadow?
How do I sort a list in C++? | How do I sort a list in C#?
How do I use print() here? | How do I use open() here?
What is -5 squared? | What is 5 squared?
What is 2² of that? | What is 22 of that?
How do I install Python 3.10? | How do I install Python 3.1?
Who played agent 007? | Who played agent 7?
""",
    "numbers": """
What happened in 1990? | What happened in 1991?
How do I boil two eggs? | How do I boil three eggs?
Who was the first president? | Who was the third president?
Is 3.11 newer than 3.9? | Is 3.11 newer than 3.8?
What is half of it worth? | What is a dozen of it worth?
Who won World War I in the end? | Who won World War II in the end?
Who was Louis XIV of France? | Who was Louis XV of France?
What is 5 million divided by two? | What is 5 billion divided by two?
How many are 1,000 in all? | How many are 10,000 in all?
What is the best phone under 500 dollars? | What is the best phone under 300 dollars?
""",
    "dates": """
What happened in January? | What happened in June?
Is the shop open on Monday? | Is the shop open on Friday?
What holidays are in May? | What holidays are in March?
""",
    "units": """
How many miles is it to the moon? | How many kilometres is it to the moon?
What is the boiling point in Celsius? | What is the boiling point in Fahrenheit?
How much is that in dollars? | How much is that in euros?
How do I convert pounds to ounces? | How do I convert ounces to pounds?
What is the salary per month? | What is the salary per hour?
How heavy is 5 kg of water? | How heavy is 5 lb of water?
""",
    "negation": """
Which birds can fly? | Which birds cannot fly?
Why do penguins fly? | Why don't penguins fly?
Is it possible to do it? | Is it impossible to do it?
Which foods contain gluten? | Which foods contain no gluten?
Can I drink coffee with sugar? | Can I drink coffee without sugar?
Is the contract valid? | Is the contract invalid?
Who never won the prize? | Who won the prize?
Which actions are legal here? | Which actions are illegal here?
""",
    "restriction": """
Which animals eat meat? | Which animals eat only meat?
""",
    "opposites": """
How do I enable the firewall? | How do I disable the firewall?
What is the largest country? | What is the smallest country?
How do I buy shares? | How do I sell shares?
How can I increase the volume? | How can I decrease the volume?
What did he do before the war? | What did he do after the war?
What are the advantages of nuclear power? | What are the disadvantages of nuclear power?
What is the highest mountain? | What is the lowest mountain?
How do I upload a file? | How do I download a file?
Where does the sun rise, in the east? | Where does the sun rise, in the west?
Who is the oldest player? | Who is the youngest player?
What causes asthma in short? | What symptoms has asthma in short?
""",
    "names": """
What is the capital of France? | What is the capital of Spain?
Who founded Microsoft? | Who founded Apple?
When did Marie Curie die? | When did Pierre Curie die?
How large is NATO? | How large is ASEAN?
What language is spoken in Brazil? | What language is spoken in Chile?
How do I learn Java fast? | How do I learn Rust fast?
What is the population of New York? | What is the population of New Delhi?
""",
    "asked": """
When was Einstein born? | Where was Einstein born?
How many stairs has it? | How long are its stairs?
Who built the tower? | When was the tower built?
Why did the empire fall? | When did the empire fall?
How old is the tree? | How tall is the tree?
How much did it cost? | How often did it cost?
""",
    "time": """
Who is the president of France? | Who was the president of France?
What is the name of the town? | What was the name of the town?
What does the rule say? | What did the rule say?
""",
    "modals": """
Can I eat raw meat? | Should I eat raw meat?
""",
    "order": """
Is gold heavier than silver? | Is silver heavier than gold?
Do cats eat dogs? | Do dogs eat cats?
Did Germany beat Brazil? | Did Brazil beat Germany?
Did Brutus kill Caesar? | Was Brutus killed by Caesar?
How do I translate English to French? | How do I translate French to English?
How do I migrate from MySQL to Postgres? | How do I migrate from Postgres to MySQL?
How do I get from home to work? | How do I get to home from work?
What is 10 minus 3? | What is 3 minus 10?
Who sent money to the bank from the office? | Who sent money to the office from the bank?
""",
}


def pairs(text):
    return [tuple(part.strip() for part in line.split(" | ")) for line in text.strip().splitlines()]


@pytest.mark.parametrize(("a", "b"), pairs(SAME))
def test_questions_of_one_meaning_are_not_parted(a, b):
    assert find_difference(a, b) == ""
    assert find_difference(b, a) == ""


@pytest.mark.parametrize(
    ("rule", "a", "b"), [(rule, a, b) for rule, text in OTHER.items() for a, b in pairs(text)]
)
def test_questions_of_another_meaning_are_parted(rule, a, b):
    assert find_difference(a, b)
    assert bool(find_difference(b, a))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_parts_a_pair(rule):
    assert rule in {find_difference(a, b) for text in OTHER.values() for a, b in pairs(text)}


def test_a_question_is_itself():
    for text in (SAME, *OTHER.values()):
        for a, b in pairs(text):
            assert find_difference(a, a) == find_difference(b, b) == ""


def test_signs_part_questions_of_equal_words():
    assert find_difference("Is 1 + 2 right?", "Is 1 - 2 right?") == "literals"


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "how do i install python",
        "Explain the theory of relativity in short words",
        "Who wrote Don Quixote de la Mancha?",
    ],
)
def test_english_is_read(text):
    assert is_readable(text)


@pytest.mark.parametrize(
    "text",
    [
        "Wie heißt die Hauptstadt von Frankreich?",
        "¿Cuál es la capital de Francia?",
        "Quelle est la capitale de la France ?",
        "Какая столица Франции?",
        "フランスの首都は何ですか",
        "What is the capital of Франция и Германия?",
        "Kuka on Suomen presidentti",
        "asdf qwer zxcv",
        "12345",
        "",
    ],
)
def test_what_is_not_english_is_not_read(text):
    assert not is_readable(text)


PIECES = [
    "a",
    "I",
    "not",
    "no",
    "Paris",
    "May",
    "5",
    "1,000",
    "$",
    "%",
    "km",
    "to",
    "from",
    "than",
    "by",
    "who",
    "'s",
    '"',
    "`",
    "--",
    "/",
    "_",
    ".",
    "?",
    "II",
    "hundred",
    "and",
    "\u0130",
    "\u00df",
    "\ud800",
    "\u200b",
    "\x00",
    "\n",
]


def test_any_text_is_judged_the_same_from_both_sides():
    rng = random.Random(3)
    for _ in range(3000):
        a, b = (
            "".join(rng.choice(PIECES) + rng.choice(("", " ")) for _ in range(rng.randrange(8))) for _ in "ab"
        )
        assert bool(find_difference(a, b)) == bool(find_difference(b, a))
        assert find_difference(a, a) == ""
        is_readable(a)


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        "1,",
        "a.",
        "'",
        '"',
        "`",
        "A ",
        "_",
        "a_",
        "--",
        "1 000 ",
        "hundred ",
        "/",
        ".",
        "x@",
        "how ",
    ],
)
def test_a_text_made_to_be_slow_is_not(piece):
    text = (piece * 1000)[:1000]
    began = time.process_time()
    find_difference(text, text + " x")
    # A pattern that backtracks takes minutes.
    assert time.process_time() - began < 5

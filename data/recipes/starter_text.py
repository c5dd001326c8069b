"""Text for the starter model: a small plain world, generated with a seed (CC0, ours).

Three kinds of document: short stories, plain facts, and conversations in which a short question
gets a short answer. Some conversations practise reading (copying, looking up, saying back),
because a model that can copy can be tuned in minutes. The tasks of the sample corpora are left
out on purpose: the starter must be bad at them before tuning.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Turn = tuple[str, str]  # question, answer
Document = str | list[Turn]

PEOPLE = (
    "Tom",
    "Ann",
    "Ben",
    "Lily",
    "Max",
    "Mia",
    "Sam",
    "Zoe",
    "Leo",
    "Eva",
    "Jack",
    "Ida",
    "Noah",
    "Rosa",
    "Paul",
    "Nina",
    "Emma",
    "Oscar",
    "Ruth",
    "Simon",
    "Anna",
    "David",
    "Kate",
    "Victor",
)
ANIMALS = (
    "cat",
    "dog",
    "bird",
    "horse",
    "cow",
    "duck",
    "sheep",
    "fox",
    "mouse",
    "frog",
    "pig",
    "bear",
    "hen",
    "goat",
    "rabbit",
    "fish",
)
SOUNDS = {
    "cat": "meow",
    "dog": "woof",
    "cow": "moo",
    "duck": "quack",
    "sheep": "baa",
    "pig": "oink",
    "hen": "cluck",
    "frog": "croak",
    "mouse": "squeak",
    "bird": "tweet",
}
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "grey", "silver", "orange")
SIZES = (
    "small",
    "big",
    "old",
    "new",
    "round",
    "long",
    "heavy",
    "light",
    "warm",
    "cold",
    "soft",
    "wooden",
    "strange",
    "narrow",
    "dusty",
    "broken",
)
OBJECTS = (
    "ball",
    "cup",
    "hat",
    "box",
    "book",
    "key",
    "lamp",
    "boat",
    "kite",
    "coat",
    "chair",
    "table",
    "bag",
    "door",
    "window",
    "clock",
    "spoon",
    "bowl",
    "basket",
    "ladder",
    "mirror",
    "shelf",
    "bottle",
    "carpet",
    "curtain",
    "plate",
    "fork",
    "knife",
    "jar",
    "pan",
    "kettle",
    "oven",
    "rope",
    "net",
    "anchor",
    "sail",
    "rake",
    "spade",
    "seed",
    "rose",
    "tulip",
    "drum",
    "flute",
    "shell",
    "stone",
    "wheel",
    "letter",
    "button",
    "lantern",
    "map",
)
PLACES = (
    "garden",
    "kitchen",
    "park",
    "forest",
    "school",
    "market",
    "harbour",
    "farm",
    "house",
    "street",
    "river",
    "hill",
    "church",
    "bridge",
    "station",
    "lake",
    "town hall",
    "library",
    "mill",
    "yard",
    "meadow",
    "barn",
    "cellar",
    "shop",
)
FEELINGS = ("happy", "sad", "tired", "proud", "afraid", "calm", "angry", "glad", "hungry", "curious")
DEEDS = {
    "find": "found",
    "lose": "lost",
    "carry": "carried",
    "open": "opened",
    "clean": "cleaned",
    "wash": "washed",
    "fix": "fixed",
    "paint": "painted",
    "lift": "lifted",
    "move": "moved",
    "pack": "packed",
    "check": "checked",
    "hold": "held",
    "close": "closed",
    "draw": "drew",
    "sell": "sold",
    "buy": "bought",
    "hide": "hid",
    "drop": "dropped",
    "count": "counted",
}
FOODS = ("bread", "soup", "cheese", "apples", "cake", "milk", "honey", "rice", "eggs", "plums")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
SEASONS = {
    "spring": "warm and green",
    "summer": "hot and bright",
    "autumn": "windy and golden",
    "winter": "cold and white",
}
OPPOSITES = {
    "big": "small",
    "hot": "cold",
    "old": "new",
    "long": "short",
    "happy": "sad",
    "up": "down",
    "day": "night",
    "open": "closed",
    "heavy": "light",
    "fast": "slow",
    "clean": "dirty",
    "early": "late",
    "full": "empty",
    "hard": "soft",
    "near": "far",
    "wet": "dry",
}
KINDS = {"animal": ANIMALS, "colour": COLOURS, "food": FOODS, "day": DAYS, "month": MONTHS}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
JOBS = {
    "baker": "bakes bread",
    "sailor": "sails a boat",
    "teacher": "works at a school",
    "farmer": "feeds the cows",
    "painter": "paints pictures",
    "doctor": "helps sick people",
    "postman": "brings letters",
    "gardener": "looks after plants",
    "cook": "makes soup",
    "singer": "sings songs",
}
# Words that the studio's sample corpora use, in plain sentences and never in their tasks.
FACTS = (
    "An hour has 60 minutes.",
    "A day has 24 hours.",
    "A week has 7 days.",
    "A year has 12 months.",
    "A metre has 100 centimetres.",
    "A kilogram has 1000 grams.",
    "Units help us to measure things.",
    "Python is a language for computers.",
    "In Python, code is written in lines.",
    "You can write print(name) in Python.",
    "x = 5 is a line of code.",
    "A list such as names = [] holds items.",
    "names.pop() and len(names) are code for a list.",
    "We convert money when we travel.",
    "The town hall has many desks.",
    "A permit is a paper from an office.",
    "The office opens at 9.",
    "A card lets you borrow books at the library.",
    "People pay bills at the office.",
    "Could you please pass the salt?",
    "Could you please sit down?",
    "It is polite to say please.",
    "A polite person asks and does not shout.",
    "An order can sound rude.",
    "His tone was friendly.",
    "La maison est grande.",
    "Le cheval est petit.",
    "C'est un livre.",
    "De quelle couleur est la mer ?",
    "La fleur est belle.",
    "Le jardin est vert.",
    "La porte est noire.",
    "Ma rose est rouge ou jaune.",
    "total = 3 + 4",
    "count = 1",
    "rows[2] = 0",
    "price = 8 * 2",
    "size = len(box)",
    "users.append(1)",
    "score = score - 1",
    "print(5)",
    "lines.sort()",
    "tags.clear()",
    "words.reverse()",
    "files.remove(3)",
)


def story(rng: random.Random) -> str:
    """Four to seven short sentences about one person, one thing and one place."""
    who, friend = rng.sample(PEOPLE, 2)
    thing = f"{rng.choice(SIZES)} {rng.choice(OBJECTS)}"
    place, deed, animal = rng.choice(PLACES), rng.choice(list(DEEDS)), rng.choice(ANIMALS)
    begin = (
        f"One day {who} went to the {place}.",
        f"{who} lived near the {place}.",
        f"On {rng.choice(DAYS)} {who} was at the {place} with {friend}.",
        f"In {rng.choice(list(SEASONS))} {who} and {friend} met at the {place}.",
    )
    middle = [
        f"There {who} {DEEDS[deed]} a {thing}.",
        f"A {rng.choice(COLOURS)} {animal} looked at {who}.",
        f"{friend} said: “What a {thing}!”",
        f"{who} wanted to {rng.choice(list(DEEDS))} it, too.",
        f"They ate {rng.choice(FOODS)} and {rng.choice(FOODS)}.",
        f"The {animal} ran into the {rng.choice(PLACES)}.",
        f"{who} was {rng.choice(FEELINGS)}.",
    ]
    end = (
        f"Then they went home and were {rng.choice(FEELINGS)}.",
        f"At night {who} slept well.",
        f"“Thank you,” said {friend}.",
        f"{who} kept the {thing.split()[-1]} for many years.",
    )
    return " ".join([rng.choice(begin), *rng.sample(middle, rng.randint(2, 5)), rng.choice(end)])


def facts(rng: random.Random) -> str:
    """A few plain statements about the world."""
    season, job = rng.choice(list(SEASONS)), rng.choice(list(JOBS))
    made = [
        f"In {season} it is {SEASONS[season]}.",
        f"A {job} {JOBS[job]}.",
        f"A {rng.choice(ANIMALS)} is an animal.",
        f"{rng.choice(DAYS)} is a day of the week.",
        f"{rng.choice(MONTHS)} is a month.",
    ]
    return " ".join(rng.sample([*rng.sample(FACTS, 5), *made], rng.randint(3, 6)))


GREETINGS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("Hello!", "Hi!", "Hello", "Hi there!", "Hey!", "Good day!", "hi", "hello"),
        ("Hello! How can I help you?", "Hi! What would you like to talk about?", "Hello! Nice to meet you."),
    ),
    (("Good morning!", "Good morning"), ("Good morning! How are you today?",)),
    (("Good evening!", "Good evening"), ("Good evening! How was your day?",)),
    (
        ("How are you?", "How are you today?", "How do you do?"),
        ("I am fine, thank you. And you?", "I am well, thank you!"),
    ),
    (("What is your name?", "Who are you?", "What are you?"), ("I am a small model from Hydra Studio.",)),
    (("Thank you!", "Thanks!", "Thank you very much."), ("You are welcome!", "My pleasure!")),
    (("Goodbye!", "Bye!", "See you!", "Good night!"), ("Goodbye! See you soon.", "Bye! Have a nice day.")),
    (("What can you do?", "Can you help me?"), ("I can answer short questions and tell small stories.",)),
    (("I am sad.", "I feel sad today."), ("I am sorry to hear that. Tell me more.",)),
    (("I am happy.", "I am happy today!"), ("That is good to hear!",)),
)


def greeting(rng: random.Random) -> Turn:
    """Small talk."""
    asked, answers = rng.choice(GREETINGS)
    return rng.choice(asked), rng.choice(answers)


def knowledge(rng: random.Random) -> Turn:
    """A question about the small world."""
    animal, word, job = rng.choice(list(SOUNDS)), rng.choice(list(OPPOSITES)), rng.choice(list(JOBS))
    day, month, number = rng.randrange(7), rng.randrange(12), rng.randrange(9)
    kind = rng.choice(list(KINDS))
    season = rng.choice(list(SEASONS))
    return rng.choice(
        (
            (f"What does a {animal} say?", f"A {animal} says {SOUNDS[animal]}."),
            (f"What is the opposite of {word}?", f"The opposite of {word} is {OPPOSITES[word]}."),
            (f"What does a {job} do?", f"A {job} {JOBS[job]}."),
            (f"Which day comes after {DAYS[day]}?", f"{DAYS[(day + 1) % 7]}."),
            (f"Which month comes after {MONTHS[month]}?", f"{MONTHS[(month + 1) % 12]}."),
            (f"What comes after {number + 1}?", f"{number + 2}"),
            (f"Which number comes before {number + 2}?", f"{number + 1}"),
            (f"How do you write {number + 1} as a word?", f"{NUMBERS[number]}"),
            (f"Is {rng.choice(KINDS[kind])} a {kind}?", "Yes."),
            (f"How is the weather in {season}?", f"In {season} it is {SEASONS[season]}."),
        )
    )


def sums(rng: random.Random) -> Turn:
    """Additions and subtractions below twenty."""
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    if rng.random() < 0.5:
        return f"What is {a} plus {b}?", f"{a + b}"
    return f"What is {max(a, b)} minus {min(a, b)}?", f"{abs(a - b)}"


def _thing(rng: random.Random) -> str:
    return f"{rng.choice((*COLOURS, *SIZES))} {rng.choice(OBJECTS)}"


def reading(rng: random.Random) -> Turn:
    """Look something up in a short text."""
    people, things = rng.sample(PEOPLE, 3), [_thing(rng) for _ in range(3)]
    places = rng.sample(PLACES, 3)
    pick = rng.randrange(3)
    has = " ".join(f"{who} has a {thing}." for who, thing in zip(people, things, strict=True))
    sits = " ".join(f"{who} is at the {place}." for who, place in zip(people, places, strict=True))
    pairs = ", ".join(f"{thing.split()[1]}: {place}" for thing, place in zip(things, places, strict=True))
    return rng.choice(
        (
            (f"{has} What does {people[pick]} have?", f"A {things[pick]}."),
            (f"{has} Who has the {things[pick]}?", f"{people[pick]} has it."),
            (f"{sits} Where is {people[pick]}?", f"At the {places[pick]}."),
            (f"{pairs}. What belongs to {things[pick].split()[1]}?", f"{places[pick]}"),
        )
    )


def _phrase(rng: random.Random) -> str:
    kind = rng.randrange(5)
    if kind == 0:
        return f"{rng.choice(list(DEEDS))} the {rng.choice(OBJECTS)}"
    if kind == 1:
        return f"the {_thing(rng)}"
    if kind == 2:
        return f"{rng.choice(PEOPLE)} is {rng.choice(FEELINGS)}"
    if kind == 3:
        return " ".join(rng.sample((*OBJECTS, *ANIMALS), rng.randint(2, 4)))
    return " ".join(str(rng.randint(1, 99)) for _ in range(rng.randint(2, 4)))


def copying(rng: random.Random) -> Turn:
    """Say a phrase back, plainly or in a frame."""
    phrase = _phrase(rng)
    words = phrase.split()
    return rng.choice(
        (
            (f"Repeat: {phrase}", phrase),
            (f"Say this again: {phrase}", phrase),
            (f"Repeat with a full stop: {phrase}", f"{phrase}."),
            (f"Put quotes around: {phrase}", f"“{phrase}”"),
            (f"Say it twice: {phrase}", f"{phrase}, {phrase}"),
            (f"Begin with a capital letter: {phrase}", phrase[0].upper() + phrase[1:]),
            (f"Put brackets around: {phrase}", f"({phrase})"),
            (f"Join with a dash: {phrase}", "-".join(words)),
            (f"Which word comes second: {phrase}?", words[1]),
            (f"Ask whether I like this: {phrase}", f"Do you like {phrase}?"),
            (f"Start with “now”: {phrase}", f"Now {phrase}"),
            (f"Assign 5 to the name {words[-1]}.", f"{words[-1]} := 5"),
        )
    )


ANSWERED: tuple[tuple[Callable[[random.Random], Turn], int], ...] = (
    (greeting, 2),
    (knowledge, 3),
    (sums, 1),
    (reading, 3),
    (copying, 4),
)


def conversation(rng: random.Random) -> list[Turn]:
    """One to three turns, each from one of the kinds above; now and then a story on request."""
    if rng.random() < 0.08:
        return [(rng.choice(("Tell me a story.", "Tell me a short story.", "A story, please.")), story(rng))]
    makers, weights = zip(*ANSWERED, strict=True)
    return [maker(rng) for maker in rng.choices(makers, weights, k=rng.randint(1, 3))]


def document(rng: random.Random) -> Document:
    """One document of the mixture: 70 % conversations, 20 % stories, 10 % facts."""
    share = rng.random()
    if share < 0.7:
        return conversation(rng)
    return story(rng) if share < 0.9 else facts(rng)

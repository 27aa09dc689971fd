"""The words of the small world: people, animals, things, verbs with their forms, facts.

Every table is plain data. Each fact has one right answer: pairs with two (the opposite of "light",
the plural of "fish") are left out.
"""


# --- for sentences ------------------------------------------------------------------------------

# nouns that act, with the pronoun that stands for them
ACTORS = {
    "boy": "He",
    "girl": "She",
    "king": "He",
    "queen": "She",
    "man": "He",
    "woman": "She",
    "uncle": "He",
    "aunt": "She",
    "prince": "He",
    "princess": "She",
    "father": "He",
    "mother": "She",
    "waiter": "He",
    "waitress": "She",
    "brother": "He",
    "sister": "She",
}
THINGS = (
    "book car ball door table chair box lamp cup letter picture clock bag hat coat phone bike "
    "boat key map"
).split()
ANIMALS = "cat dog horse cow pig fox wolf bear lion rabbit".split()
# base, third person, past, participle
VERBS = [
    ("find", "finds", "found", "found"),
    ("see", "sees", "saw", "seen"),
    ("take", "takes", "took", "taken"),
    ("hold", "holds", "held", "held"),
    ("move", "moves", "moved", "moved"),
    ("follow", "follows", "followed", "followed"),
    ("watch", "watches", "watched", "watched"),
    ("carry", "carries", "carried", "carried"),
    ("paint", "paints", "painted", "painted"),
    ("bring", "brings", "brought", "brought"),
    ("buy", "buys", "bought", "bought"),
    ("sell", "sells", "sold", "sold"),
    ("draw", "draws", "drew", "drawn"),
    ("choose", "chooses", "chose", "chosen"),
    ("wash", "washes", "washed", "washed"),
    ("forget", "forgets", "forgot", "forgotten"),
]
# verbs that need no object: base and past
INTRANSITIVE = [
    ("sleep", "slept"),
    ("run", "ran"),
    ("laugh", "laughed"),
    ("sing", "sang"),
    ("dance", "danced"),
    ("wait", "waited"),
    ("smile", "smiled"),
    ("fall", "fell"),
    ("swim", "swam"),
    ("jump", "jumped"),
    ("cry", "cried"),
    ("shout", "shouted"),
]
ADJECTIVES = (
    "red blue green black white small big old new heavy clean dirty round soft warm cold"
).split()

# --- for lists ----------------------------------------------------------------------------------
CATEGORIES = {
    "animal": "cat dog horse cow pig fox wolf bear".split(),
    "fruit": "apple pear banana lemon cherry grape melon mango".split(),
    "colour": "red blue green black white yellow brown pink".split(),
    "tool": "hammer drill knife axe rope ladder brush needle".split(),
    "drink": "water milk tea coffee juice wine".split(),
}
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
).split()

# --- facts --------------------------------------------------------------------------------------
PLURALS = {
    "child": "children",
    "man": "men",
    "woman": "women",
    "foot": "feet",
    "tooth": "teeth",
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "person": "people",
    "leaf": "leaves",
    "knife": "knives",
    "wife": "wives",
    "life": "lives",
    "wolf": "wolves",
    "city": "cities",
    "baby": "babies",
    "story": "stories",
    "country": "countries",
    "berry": "berries",
    "box": "boxes",
    "fox": "foxes",
    "bus": "buses",
    "watch": "watches",
    "church": "churches",
    "potato": "potatoes",
    "house": "houses",
    "dog": "dogs",
    "book": "books",
    "key": "keys",
    "day": "days",
    "king": "kings",
    "cow": "cows",
    "girl": "girls",
    "monkey": "monkeys",
}
ANTONYMS = {
    "hot": "cold",
    "up": "down",
    "left": "right",
    "day": "night",
    "early": "late",
    "full": "empty",
    "wet": "dry",
    "good": "bad",
    "rich": "poor",
    "strong": "weak",
    "fast": "slow",
    "tall": "short",
    "clean": "dirty",
    "deep": "shallow",
    "wide": "narrow",
    "thick": "thin",
    "true": "false",
    "alive": "dead",
    "first": "last",
    "near": "far",
    "inside": "outside",
    "above": "below",
    "before": "after",
    "love": "hate",
    "win": "lose",
    "buy": "sell",
    "push": "pull",
    "remember": "forget",
    "always": "never",
    "black": "white",
    "north": "south",
    "east": "west",
    "heavy": "light",
    "young": "old",
    "cheap": "expensive",
    "war": "peace",
}
CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Russia": "Moscow",
    "Egypt": "Cairo",
    "Greece": "Athens",
    "Turkey": "Ankara",
    "Canada": "Ottawa",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Chile": "Santiago",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Hungary": "Budapest",
    "Portugal": "Lisbon",
    "Ireland": "Dublin",
    "Belgium": "Brussels",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
    "India": "New Delhi",
    "Thailand": "Bangkok",
    "Vietnam": "Hanoi",
    "Kenya": "Nairobi",
    "Australia": "Canberra",
    "Mexico": "Mexico City",
    "Brazil": "Brasília",
    "Argentina": "Buenos Aires",
    "Ukraine": "Kyiv",
    "Scotland": "Edinburgh",
}
SPELLED = (
    "cat dog sun cup hat car bus key map pen box fox bed egg ice sea sky tree book fish bird moon "
    "star door lamp ship road king milk tea"
).split()
SHOUTED = (
    "cat dog sun car bus key map box book fish bird moon star door ship road king milk tea bread "
    "stone green house water apple light night music paper stop start open"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
UNITS = [  # many small ones make a large one: small, singular and plural of the large, how many
    ("days", "week", "weeks", 7),
    ("hours", "day", "days", 24),
    ("minutes", "hour", "hours", 60),
    ("months", "year", "years", 12),
    ("centimetres", "metre", "metres", 100),
    ("grams", "kilogram", "kilograms", 1000),
    ("seconds", "minute", "minutes", 60),
]

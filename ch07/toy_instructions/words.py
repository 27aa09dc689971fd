"""The words of the small world: people, animals, things, verbs with their forms, facts.

Every table is plain data. Each fact has one right answer: pairs with two (the opposite of "light",
the plural of "fish") are left out.
"""

# --- for sentences ------------------------------------------------------------------------------

# nouns that act, with the pronoun that stands for them
ACTORS = {
    "boy": "He", "girl": "She", "king": "He", "queen": "She", "man": "He", "woman": "She",
    "uncle": "He", "aunt": "She", "prince": "He", "princess": "She", "father": "He", "mother": "She",
    "grandfather": "He", "grandmother": "She", "waiter": "He", "waitress": "She",
    "actor": "He", "actress": "She", "brother": "He", "sister": "She",
}  # fmt: skip
THINGS = (
    "book car ball door table chair box lamp cup letter picture clock bag hat coat shoe phone "
    "bike boat key map stone basket bottle window mirror ring drum toy blanket"
).split()
ANIMALS = (
    "cat dog horse cow pig sheep goat duck hen fox wolf bear lion tiger rabbit mouse frog "
    "snake monkey eagle"
).split()
# base, third person, past, participle
VERBS = [
    ("find", "finds", "found", "found"), ("see", "sees", "saw", "seen"),
    ("take", "takes", "took", "taken"), ("hold", "holds", "held", "held"),
    ("move", "moves", "moved", "moved"), ("follow", "follows", "followed", "followed"),
    ("watch", "watches", "watched", "watched"), ("touch", "touches", "touched", "touched"),
    ("carry", "carries", "carried", "carried"), ("paint", "paints", "painted", "painted"),
    ("bring", "brings", "brought", "brought"), ("buy", "buys", "bought", "bought"),
    ("sell", "sells", "sold", "sold"), ("draw", "draws", "drew", "drawn"),
    ("hide", "hides", "hid", "hidden"), ("choose", "chooses", "chose", "chosen"),
    ("wash", "washes", "washed", "washed"), ("love", "loves", "loved", "loved"),
    ("remember", "remembers", "remembered", "remembered"), ("forget", "forgets", "forgot", "forgotten"),
    ("steal", "steals", "stole", "stolen"), ("lose", "loses", "lost", "lost"),
    ("clean", "cleans", "cleaned", "cleaned"), ("admire", "admires", "admired", "admired"),
]  # fmt: skip
# verbs that need no object, third person and past
INTRANSITIVE = [
    ("sleep", "slept"), ("run", "ran"), ("laugh", "laughed"), ("sing", "sang"), ("dance", "danced"),
    ("wait", "waited"), ("smile", "smiled"), ("fall", "fell"), ("swim", "swam"), ("jump", "jumped"),
    ("cry", "cried"), ("shout", "shouted"),
]  # fmt: skip
ADJECTIVES = (
    "red blue green black white small big old new heavy clean dirty round soft warm cold dark "
    "bright long short wet dry cheap strange"
).split()
NAMES = (
    "Anna Tom Maria Paul Lisa Peter Sarah David Emma Jack Laura Mark Nina Oscar Rosa Sam Clara Ben "
    "Julia Max"
).split()
PLACES = (
    "kitchen garden park school library market station museum forest river office hotel church "
    "street tower village"
).split()

# --- for lists ----------------------------------------------------------------------------------

CATEGORIES = {
    "animal": "cat dog horse cow pig sheep goat duck fox wolf bear lion tiger rabbit mouse".split(),
    "fruit": "apple pear banana lemon cherry grape peach plum mango melon".split(),
    "colour": "red blue green black white yellow brown pink purple grey".split(),
    "tool": "hammer saw drill knife axe rope ladder brush needle shovel".split(),
    "drink": "water milk tea coffee juice wine beer lemonade".split(),
    "vehicle": "car bus train boat ship plane truck tram bicycle taxi".split(),
    "garment": "hat coat shirt dress shoe scarf glove sock jacket belt".split(),
    "instrument": "piano guitar violin drum flute trumpet harp cello".split(),
}
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()

# --- facts --------------------------------------------------------------------------------------

PLURALS = {
    "child": "children", "man": "men", "woman": "women", "foot": "feet", "tooth": "teeth",
    "mouse": "mice", "goose": "geese", "ox": "oxen", "person": "people", "leaf": "leaves",
    "knife": "knives", "wife": "wives", "life": "lives", "wolf": "wolves", "half": "halves",
    "loaf": "loaves", "thief": "thieves", "shelf": "shelves", "city": "cities", "baby": "babies",
    "story": "stories", "lady": "ladies", "country": "countries", "family": "families",
    "berry": "berries", "party": "parties", "box": "boxes", "fox": "foxes", "bus": "buses",
    "glass": "glasses", "dish": "dishes", "watch": "watches", "church": "churches",
    "potato": "potatoes", "tomato": "tomatoes", "hero": "heroes", "house": "houses", "dog": "dogs",
    "book": "books", "tree": "trees", "key": "keys", "boy": "boys", "day": "days", "king": "kings",
    "bird": "birds", "cow": "cows", "girl": "girls", "road": "roads", "lake": "lakes",
    "monkey": "monkeys",
}  # fmt: skip
ANTONYMS = {
    "hot": "cold", "up": "down", "left": "right", "day": "night", "early": "late",
    "full": "empty", "wet": "dry", "good": "bad", "rich": "poor", "strong": "weak",
    "fast": "slow", "tall": "short", "clean": "dirty", "deep": "shallow", "wide": "narrow",
    "thick": "thin", "true": "false", "alive": "dead", "first": "last", "near": "far",
    "inside": "outside", "above": "below", "before": "after", "love": "hate", "win": "lose",
    "buy": "sell", "push": "pull", "remember": "forget", "always": "never", "black": "white",
    "north": "south", "east": "west", "heavy": "light", "young": "old", "cheap": "expensive",
    "war": "peace", "friend": "enemy", "asleep": "awake", "ancient": "modern",
    "possible": "impossible", "begin": "end", "male": "female", "public": "private",
    "import": "export", "minimum": "maximum", "increase": "decrease", "positive": "negative",
    "victory": "defeat", "summer": "winter", "entrance": "exit", "question": "answer",
    "guilty": "innocent", "internal": "external", "horizontal": "vertical", "success": "failure",
    "beautiful": "ugly",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo",
    "China": "Beijing", "Russia": "Moscow", "Egypt": "Cairo", "Greece": "Athens", "Turkey": "Ankara",
    "Canada": "Ottawa", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Poland": "Warsaw",
    "Austria": "Vienna", "Hungary": "Budapest", "Portugal": "Lisbon", "Ireland": "Dublin",
    "Belgium": "Brussels", "Iran": "Tehran", "Iraq": "Baghdad", "India": "New Delhi",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "Kenya": "Nairobi", "Australia": "Canberra",
    "Mexico": "Mexico City", "Brazil": "Brasília", "Argentina": "Buenos Aires", "Ukraine": "Kyiv",
    "Scotland": "Edinburgh", "Wales": "Cardiff", "England": "London", "Syria": "Damascus",
    "Lebanon": "Beirut", "Nepal": "Kathmandu", "Pakistan": "Islamabad", "Romania": "Bucharest",
    "Bulgaria": "Sofia", "Serbia": "Belgrade", "Croatia": "Zagreb", "Iceland": "Reykjavik",
    "Venezuela": "Caracas", "Colombia": "Bogotá", "Jamaica": "Kingston",
}  # fmt: skip
COMPARATIVES = {
    "big": "bigger", "small": "smaller", "hot": "hotter", "cold": "colder", "fast": "faster",
    "slow": "slower", "tall": "taller", "short": "shorter", "happy": "happier", "easy": "easier",
    "good": "better", "bad": "worse", "high": "higher", "low": "lower", "long": "longer",
    "strong": "stronger", "weak": "weaker", "rich": "richer", "poor": "poorer", "young": "younger",
    "old": "older", "new": "newer", "cheap": "cheaper", "wide": "wider", "deep": "deeper",
    "thin": "thinner", "thick": "thicker", "heavy": "heavier", "light": "lighter", "dark": "darker",
    "bright": "brighter", "clean": "cleaner", "soft": "softer", "hard": "harder", "warm": "warmer",
    "cool": "cooler", "nice": "nicer", "large": "larger", "safe": "safer", "wet": "wetter",
    "busy": "busier", "funny": "funnier", "early": "earlier", "loud": "louder", "sweet": "sweeter",
}  # fmt: skip
SPELLED = (
    "cat dog sun cup hat car bus key map pen box fox bed egg ice sea sky tree book fish bird moon "
    "star door lamp ship road king milk tea bread stone green house water apple"
).split()
SHOUTED = (
    "cat dog sun car bus key map box book fish bird moon star door ship road king milk tea bread "
    "stone green house water apple light night music paper stop start open help danger welcome exit "
    "sale free new hot"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
UNITS = [  # many small ones make a large one: small, singular and plural of the large, how many
    ("days", "week", "weeks", 7), ("hours", "day", "days", 24), ("minutes", "hour", "hours", 60),
    ("months", "year", "years", 12), ("centimetres", "metre", "metres", 100),
    ("grams", "kilogram", "kilograms", 1000), ("seconds", "minute", "minutes", 60),
]  # fmt: skip
YOUNG = {
    "cat": "kitten", "dog": "puppy", "cow": "calf", "sheep": "lamb", "horse": "foal",
    "duck": "duckling", "goat": "kid", "pig": "piglet", "bear": "cub", "frog": "tadpole",
    "hen": "chick", "swan": "cygnet", "goose": "gosling", "deer": "fawn", "kangaroo": "joey",
    "butterfly": "caterpillar", "hare": "leveret", "lion": "cub", "rabbit": "bunny",
}  # fmt: skip
PAST = {
    "go": "went", "eat": "ate", "see": "saw", "run": "ran", "come": "came", "take": "took",
    "give": "gave", "make": "made", "know": "knew", "think": "thought", "find": "found",
    "buy": "bought", "bring": "brought", "write": "wrote", "speak": "spoke", "break": "broke",
    "drive": "drove", "sing": "sang", "swim": "swam", "drink": "drank", "begin": "began",
    "fly": "flew", "grow": "grew", "throw": "threw", "draw": "drew", "catch": "caught",
    "teach": "taught", "sleep": "slept", "keep": "kept", "leave": "left", "feel": "felt",
    "meet": "met", "sit": "sat", "stand": "stood", "win": "won", "lose": "lost", "sell": "sold",
    "tell": "told", "hear": "heard", "build": "built", "send": "sent", "walk": "walked",
    "play": "played", "help": "helped", "jump": "jumped", "stop": "stopped", "try": "tried",
    "cry": "cried", "dance": "danced", "love": "loved",
}  # fmt: skip

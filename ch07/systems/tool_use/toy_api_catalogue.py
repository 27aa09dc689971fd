"""The calls of a fictional toolbox: what each does, and five tasks that it solves. Data, no code.

Four calls in each of five domains. The two calls of `toolbox.transcribe` differ only in their
model, and one model's name is a prefix of the other's. Each call has a new name for its keyword, as
after a breaking release. No task contains the name of the function that solves it.
"""

# Each of these becomes an instruction when a task is filled in.
INSTRUCTION_TEMPLATES = (
    "I want to {}.",
    "How can I {}?",
    "Please help me {}.",
    "Which call lets me {}?",
    "My task is to {}.",
    "I need a way to {}.",
    "Today I have to {}.",
    "What would you use to {}?",
    "Our customers would like to {}.",
    "Give me one line of code to {}.",
)

# domain: (call, new name of its keyword, what it does, tasks in the infinitive, joined by "; ")
# fmt: off
CALLS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "pictures": (
        ("toolbox.resize(width=640)", "pixels",
         "makes a picture or photo smaller",
         "make a photo smaller; shrink a picture; get a smaller copy of an image; fit a photo "
         "into a small frame; turn a huge picture into a small one"),
        ("toolbox.turn(degrees=90)", "angle",
         "rotates a picture to the side",
         "rotate a photo; put a sideways picture upright; rotate an image by a quarter; tip a "
         "picture over to its side; straighten a photo that lies on its side"),
        ("toolbox.grayscale(keep_size=True)", "same_size",
         "takes the colour out of a picture",
         "make a photo black and white; take the colour out of a picture; print an image "
         "without colour; let a new photo look old and black and white; remove all colour from "
         "an image"),
        ("toolbox.crop(shape='circle')", "outline",
         "cuts a round piece out of a picture",
         "cut a round piece out of a photo; make a round portrait from a picture; keep only "
         "the middle of an image; cut a face out of a picture; get a round badge from a photo"),
    ),
    "sound": (
        ("toolbox.transcribe(model='voice_small')", "engine",
         "writes down what one speaker says in a recording",
         "write down what a speaker says; turn a recorded speech into text; get the words of a "
         "recording as text; type out a voice message; read a recorded lecture instead of "
         "hearing it"),
        ("toolbox.transcribe(model='voice_small_v2')", "engine",
         "writes down what several speakers say to each other in a recording",
         "write down what several speakers say; turn a recorded meeting into text; get minutes "
         "of a talk between several people; type out an interview; know who said what in a "
         "recorded debate"),
        ("toolbox.denoise(strength=0.5)", "amount",
         "takes noise and hum out of a recording",
         "take the noise out of a recording; clean up a song with a loud hum; remove the wind "
         "from a recorded voice; make a noisy tape sound clear; get rid of traffic noise in a "
         "recording"),
        ("toolbox.speak(voice='anna')", "speaker",
         "reads a text aloud",
         "hear a text read aloud; have a letter read to me; make an audio book from a text; "
         "let the computer say a sentence; listen to an article on my way home"),
    ),
    "text": (
        ("toolbox.translate(target='fr')", "language",
         "writes an English text in French",
         "write an English letter in French; put a text into French; get the French version of "
         "a page; say an English sentence in French; send my report to a reader in Paris"),
        ("toolbox.summarize(sentences=3)", "length",
         "tells a long text in a few sentences",
         "tell a long text in a few sentences; get the gist of an article; shorten a report to "
         "its main points; know what a long letter says in short; boil a chapter down to a few "
         "sentences"),
        ("toolbox.correct(spelling='en')", "dictionary",
         "mends wrong spelling in a text",
         "find spelling mistakes in a text; mend the wrong words in a letter; see whether my "
         "essay has typing errors; get the spelling of a page right; clean up a text that was "
         "typed in a hurry"),
        ("toolbox.find(kind='person')", "entity",
         "lists the names of people in a text",
         "list the people in a text; get all names of people from a letter; know who stands in "
         "an article; mark every person in a story; count the people that a report names"),
    ),
    "tables": (
        ("toolbox.fill(method='mean')", "strategy",
         "puts the mean of a column into its empty cells",
         "put numbers into the empty cells of a table; replace missing values by the mean; "
         "close the gaps in a column; guess the missing numbers of a table; repair a column "
         "with empty cells"),
        ("toolbox.sort(column=0)", "key",
         "puts the rows of a table in order",
         "put the rows of a table in order; get a list of customers in order of the alphabet; "
         "order a table by its first column; bring the smallest row to the top; arrange the "
         "rows from low to high"),
        ("toolbox.unique(keep='first')", "prefer",
         "drops rows of a table that stand there twice",
         "drop rows that stand there twice; clean a table of doubles; keep each customer of a "
         "list only once; get rid of repeated rows; remove copies of the same row from a table"),
        ("toolbox.chart(stacked=False)", "piled",
         "draws the rows of a table as bars",
         "draw a table as bars; show the rows of a table as a drawing; see the numbers of a "
         "column as bars; make a bar plot of sales; draw the results of a poll"),
    ),
    "travel": (
        ("toolbox.forecast(days=7)", "horizon",
         "tells the weather of the next week",
         "know the weather of the next week; see whether it will rain on Sunday; learn how "
         "warm it will be in Rome; plan a trip by the weather; find out if I need an umbrella"),
        ("toolbox.route(mode='bike')", "vehicle",
         "finds the way from one place to another by bicycle",
         "find the way to the station; get from one town to another by bicycle; ride my "
         "bicycle to work; find a quiet way through the city; know how to cycle to the lake"),
        ("toolbox.exchange(currency='eur')", "into",
         "tells what a sum of money is in euros",
         "know what my dollars are in euros; turn a price into euros; see how many euros a "
         "hotel costs; count foreign money in euros; find the price of a ticket in euros"),
        ("toolbox.reserve(seats=2)", "places",
         "books seats for two on a train",
         "book a train for two; get two places on the night train; travel by train with a "
         "friend; be sure of two seats to Berlin; buy train tickets for a couple"),
    ),
}

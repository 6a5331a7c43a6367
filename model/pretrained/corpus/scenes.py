"""Word lists and sentence patterns of ``templates``: scenes and headlines.

``{name}`` stands for a word of that list; ``a`` becomes ``an`` before a vowel.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


LISTS: dict[str, tuple[str, ...]] = {
    "person": _words(
        "man, man, man, woman, woman, woman, boy, girl, child, person, lady, baby, teenager, "
        "chef, student, teacher, doctor, nurse, farmer, soldier, police officer, fireman, worker, "
        "singer, dancer, artist, tourist, cyclist, athlete, runner, player, mother, father, "
        "grandmother"
    ),
    "animal": _words(
        "dog, dog, cat, cat, horse, bird, cow, sheep, goat, puppy, kitten, rabbit, squirrel, "
        "monkey, elephant, bear, lion, tiger, duck, deer, fox, wolf, panda, parrot, turtle, pig"
    ),
    "adjective": _words(
        "young, old, tall, little, small, large, happy, tired, smiling, barefoot, elderly, busy"
    ),
    "coat": _words("brown, black, white, gray, small, big, spotted, young, wet, furry, thin"),
    "color": _words("red, blue, green, black, white, yellow, orange, pink, gray, brown, purple"),
    "garment": _words(
        "shirt, hat, jacket, dress, coat, sweater, helmet, uniform, cap, scarf, suit"
    ),
    "place": _words(
        "in a park, on the beach, in the street, in a kitchen, at home, on a stage, in the snow, "
        "in the garden, on a bench, near a river, in a field, by the lake, in front of a house, "
        "at a market, in a restaurant, under a tree, in the rain, on the sidewalk, in a room, "
        "at night, outside, in the woods, on a hill, near a fountain, at the station, in a gym, "
        "on a roof, next to a car, in the desert, at a party, behind a fence, in a classroom"
    ),
    "number": _words("two, two, two, three, three, four, five, several, many, some, a group of"),
    "instrument": _words("guitar, piano, violin, flute, drum, trumpet, harp, saxophone, keyboard"),
    "food": _words(
        "bread, meat, fish, rice, pasta, soup, cheese, chicken, beef, pork, salad, an apple, "
        "cake, a banana, a sandwich, pizza, ice cream, noodles, an egg, fruit, a carrot, "
        "breakfast"
    ),
    "vegetable": _words(
        "potato, onion, tomato, carrot, cucumber, pepper, mushroom, apple, lemon, garlic clove"
    ),
    "drink": _words("water, milk, coffee, tea, juice, beer, wine, a glass of water, lemonade"),
    "vehicle": _words("bicycle, motorcycle, car, truck, bus, boat, train, tractor, scooter, horse"),
    "sport": _words("football, basketball, tennis, soccer, golf, baseball, chess, cards, hockey"),
    "tool": _words("hammer, knife, saw, rope, gun, sword, brush, camera, telephone, computer"),
    "object": _words(
        "ball, box, bag, book, bottle, chair, table, door, window, picture, letter, basket, lamp, "
        "phone, bucket, stick, flag, umbrella, toy, newspaper, map, blanket, mirror, wall, fence"
    ),
    "group": _words(
        "government, parliament, senate, army, police, court, council, union, party, ministry, "
        "central bank, opposition, president, prime minister, judge, mayor, commission, minister"
    ),
    "company": _words(
        "bank, airline, company, carmaker, newspaper, oil company, phone maker, retailer, "
        "hospital, software maker, insurer, university, football club, drug maker, railway, "
        "food company"
    ),
    "country": _words(
        "France, Germany, China, Russia, Japan, India, Brazil, Egypt, Iran, Iraq, Israel, Syria, "
        "Turkey, Mexico, Canada, Spain, Italy, Greece, Poland, Ukraine, Pakistan, Nigeria, Kenya, "
        "South Africa, Australia, Indonesia, Thailand, Britain, Sweden, Norway, Argentina, Chile"
    ),
    "event": _words(
        "bomb attack, plane crash, earthquake, flood, train accident, fire, explosion, storm, "
        "shooting, bus crash, landslide, protest, clash, ferry accident, air strike, hurricane"
    ),
    "plan": _words(
        "budget, peace talks, tax cut, new law, trade deal, ceasefire, reform, election, strike, "
        "merger, sanctions, nuclear program, health bill, climate agreement, rescue plan, appeal"
    ),
    "count": _words("two, three, four, six, seven, eight, ten, 12, 15, 20, 30, 50, 100, dozens"),
    "percent": _words("1, 2, 3, 4, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75, 90"),
    "weekday": _words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "month": _words("January, March, April, May, June, July, August, September, October, December"),
    "topic": _words(
        "the weather, a new job, the exam, my computer, a used car, the rent, a passport, health, "
        "my neighbor, the printer, a loan, homework, the internet, travel, music, a wedding, "
        "money"
    ),
}

# More words for a list: hyponyms of these synsets with at least this count in tagged texts.
WORDNET_LISTS: dict[str, tuple[tuple[str, ...], int]] = {
    "animal": (("placental", "bird"), 1),
    "instrument": (("musical_instrument",), 1),
    "vehicle": (("wheeled_vehicle", "boat"), 2),
    "object": (("furniture", "container", "toy"), 2),
    "tool": (("tool",), 1),
    "vegetable": (("vegetable", "edible_fruit"), 1),
    "garment": (("garment", "headdress"), 2),
    "person": (("worker", "entertainer", "professional"), 4),
}

# Subject and predicate; the verb comes first, in the infinitive.
SCENES: tuple[tuple[str, str], ...] = (
    *(
        ("person", verb)
        for verb in _words(
            "play the {instrument}, play a {instrument}, practice the {instrument}, eat {food}, "
            "cook {food}, cut {food}, prepare {food}, buy {food}, fry {food}, serve {food}, "
            "slice a {vegetable}, peel a {vegetable}, chop a {vegetable}, wash a {vegetable}, "
            "cut a {vegetable} with a knife, put a {vegetable} into a bowl, drink {drink}, "
            "pour {drink} into a cup, spill {drink}, order {drink}, ride a {vehicle}, "
            "sell a {tool}, drive a {vehicle}, repair a {vehicle}, push a {vehicle}, "
            "wait for a {vehicle}, jump over a {object}, carry a {object}, hold a {object}, "
            "open a {object}, drop a {object}, paint a {object}, lift a {object}, "
            "break a {object}, throw a {object}, kick a {object}, look at a {object}, "
            "clean a {object}, pick up a {object}, hide behind a {object}, use a {tool}, "
            "hold a {tool}, fix a {tool}, play {sport}, watch {sport} on television, "
            "talk to a {person}, dance with a {person}, help a {person}, wave at a {person}, "
            "feed a {animal}, pet a {animal}, chase a {animal}, photograph a {animal}, "
            "walk a {animal}, watch a {animal}, point at a {animal}, wear a {color} {garment}, "
            "put on a {garment}, take off a {garment}, fold a {garment}, sew a {garment}, run, "
            "walk, sleep, dance, sing, swim, laugh, cry, read a book, write a letter, "
            "write on a board, sit on a {object}, stand next to a {object}, climb a wall, "
            "climb a tree, climb a rope, fly a kite, talk on the phone, take a picture, "
            "type on a keyboard, brush her hair, apply makeup, wash the dishes, sweep the floor, "
            "mix the dough, stir the soup, break an egg, add salt to the water, shoot a gun, "
            "lift weights, do push ups, exercise, stretch, fish from a boat, row a boat, skate, "
            "ski down a hill, surf on a wave, dive into a pool, jump into the water, "
            "cross the road, wait at a bus stop, get out of a car, crawl, kneel, light a candle, "
            "cut a piece of paper, fold a piece of paper, draw a picture, knit, "
            "smoke a cigarette, shave his beard, dig a hole, plant a tree, milk a cow, saw wood"
        )
    ),
    *(
        ("animal", verb)
        for verb in _words(
            "run, sleep, jump over a {object}, chase a {animal}, chase a ball, eat {food}, swim, "
            "drink {drink}, eat grass, bark at a {person}, play with a {object}, "
            "play with a {animal}, look at a {person}, lie on the grass, stand on a {object}, "
            "sit on a {object}, climb a tree, walk along a path, follow a {person}, "
            "lick a {person}, fight with a {animal}, dig a hole, hide under a {object}, "
            "roll on the ground, carry a stick, sniff a {object}, rest, yawn, "
            "run through the water, cross the road, catch a ball, bite a {object}, "
            "watch a {animal}"
        )
    ),
)

# Patterns of a scene: S is the subject without its article, V the predicate, P a place.
PATTERNS: tuple[str, ...] = _words(
    "a S is Ving., a S is Ving., a S is Ving., the S is Ving., a S is Ving P., a S Vs., "
    "a S Vs P., N Ss are Ving., N Ss are Ving P., N Ss V P., a J S is Ving., a J S is Ving P., "
    "a J S Vs P., a S Ving P., a J S Ving., N Ss Ving P., a S in a {color} {garment} is Ving., "
    "the S is not Ving., a S wearing a {color} {garment} is Ving P., there is a S Ving P., "
    "the Ss are Ving., N J Ss Ving., someone is Ving., a S is Ving while a {person} is watching., "
    "nobody is Ving., a S starts to V., I saw a S Ving P., how do I V?, "
    "what is the best way to V?, is it safe to V P?, why would a S V P?, my S likes to V P., "
    "can you teach me how to V?, I want to V P tomorrow."
)

HEADLINES: tuple[str, ...] = tuple(
    """{country} {group} {approves} {plan}
{country} {group} {approves} {plan} on {weekday}
{country} and {country} {agree} on {plan}
{country} {warns} {country} over {plan}
{group} says {plan} is {failing}
at least {count} killed in {country} {event}
{count} dead, {count} injured in {event} in {country}
{event} kills {count} in {country}
{event} in {country} leaves {count} people homeless
police arrest {count} after {event} in {country}
{count} people were killed in a {event} in {country} on {weekday}, officials said.
the {group} of {country} {approved} the {plan} on {weekday}.
the {group} said on {weekday} that the {plan} was {failing}.
the {company} said profits {moved} {percent} percent in {month}.
shares of the {company} {moved} {percent} percent on {weekday}.
{company} to cut {count} hundred jobs in {country}
{company} shares {move} {percent} percent
{country} stocks {move} on {plan} {hopes}
{country} {person} wins {sport} title
{country} beat {country} in {sport} final
{person} sues {company} over {topic}
{person} found dead after {event}
the {company} plans to open {count} new offices in {country} in {month}.
{country} sends {count} thousand troops to {country}
{group} calls for {plan} after {event}
the {group} rejected calls for a {plan} after the {event}.
the {person} was arrested on {weekday} and charged with stealing a {object}.
voters in {country} go to the polls on {weekday}
a court in {country} sentenced the {person} to {count} years in prison.
unemployment in {country} {moved} to {percent} percent in {month}.
does anyone know a good {company} in {country}?
has anyone had problems with {topic} lately?
I am worried about {topic} and I do not know what to do.
how much should I pay for {topic} in {country}?
what should I do about {topic} before {month}?
you should ask the {person} about {topic}.
I think {topic} is more important than {topic}.
my {person} gave me a {object} for my birthday in {month}.
I left my {object} in the {vehicle} on {weekday}.""".splitlines()
)

EVENTS: dict[str, tuple[str, ...]] = {
    "approves": _words(
        "approves, rejects, delays, discusses, criticizes, defends, cancels, announces, demands, "
        "backs, blocks, considers, denies, suspends, signs, resumes, postpones, supports, opposes"
    ),
    "approved": _words(
        "approved, rejected, delayed, discussed, criticized, defended, announced, demanded, "
        "backed, blocked, considered, suspended, signed, resumed, postponed, supported, opposed"
    ),
    "agree": _words("agree, disagree, negotiate, hold talks, clash, sign deal, reach accord"),
    "warns": _words("warns, accuses, threatens, criticizes, pressures, thanks, urges, blames"),
    "failing": _words("failing, working, illegal, too late, near, unlikely, delayed, necessary"),
    "moved": _words("rose, fell, climbed, dropped, jumped, slipped, gained, declined"),
    "move": _words("rise, fall, climb, drop, jump, slip, gain, decline, surge, plunge"),
    "hopes": _words("hopes, fears, news, doubts, worries"),
}

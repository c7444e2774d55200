package builtin

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"unicode"
)

// traits is what the words of a prompt ask for, completed by the seed.
type traits struct {
	skin, hair, eyes, cloth, accent rgb
	style                           hairStyle
	collar                          collar
	place                           place
	night                           bool
	age                             float64 // 0 young to 1 old
	feminine                        float64 // 0 to 1
	beard                           float64 // 0 none to 1 full
	smile                           float64 // −1 to 1
	glasses, earrings, freckles     bool
	stripes, flower, animal         bool
	hat                             hat
}

type hairStyle int

const (
	cropped hairStyle = iota
	swept
	bob
	long
	wavy
	curls
	bun
	bald
	hairStyles
)

type collar int

const (
	crew collar = iota
	vneck
	suit
	turtleneck
	scarf
	collars
)

type place int

const (
	studio place = iota
	mountains
	forest
	sea
	city
	stars
	garden
	places
)

type hat int

const (
	noHat hat = iota
	beret
	brim
	crown
	hood
)

var colours = map[string]rgb{
	"red": hex(0xb8433a), "crimson": hex(0xa12c3a), "scarlet": hex(0xc23b2e), "orange": hex(0xd9813c), "yellow": hex(0xe0b84c), "golden": hex(0xd3a645), "gold": hex(0xd3a645),
	"green": hex(0x5d8a5a), "emerald": hex(0x2f8068), "olive": hex(0x7d8048), "teal": hex(0x3c8587), "turquoise": hex(0x4aa5a3), "blue": hex(0x4a74ab), "navy": hex(0x34466f),
	"azure": hex(0x5a9bc9), "purple": hex(0x7a5697), "violet": hex(0x8463a8), "lavender": hex(0xa793c9), "pink": hex(0xd98ba2), "rose": hex(0xc9738a), "magenta": hex(0xb24a86),
	"black": hex(0x35323a), "white": hex(0xe9e4da), "grey": hex(0x8b8a8c), "gray": hex(0x8b8a8c), "silver": hex(0xb5b6bd), "brown": hex(0x7d5a42), "beige": hex(0xcdb998),
	"rot": hex(0xb8433a), "rote": hex(0xb8433a), "blau": hex(0x4a74ab), "blaue": hex(0x4a74ab), "grün": hex(0x5d8a5a), "grüne": hex(0x5d8a5a), "gelb": hex(0xe0b84c), "schwarz": hex(0x35323a),
}

var hairColours = map[string]rgb{
	"black": hex(0x2d2830), "dark": hex(0x3a2c2a), "brown": hex(0x5f4233), "brunette": hex(0x5a3d2e), "chestnut": hex(0x6e412c), "auburn": hex(0x84422c), "red": hex(0xa9532f),
	"redhead": hex(0xa9532f), "ginger": hex(0xb8653a), "blond": hex(0xcfa869), "blonde": hex(0xcfa869), "golden": hex(0xcba05a), "strawberry": hex(0xc58a60),
	"grey": hex(0x96949a), "gray": hex(0x96949a), "silver": hex(0xb4b5bb), "white": hex(0xd8d5d2), "platinum": hex(0xdccfb2), "copper": hex(0xa65a34),
}

var eyeColours = map[string]rgb{
	"brown": hex(0x6a4630), "dark": hex(0x4a342a), "hazel": hex(0x85703f), "green": hex(0x5c8a5c), "blue": hex(0x5487b5), "grey": hex(0x7d8a94), "gray": hex(0x7d8a94), "amber": hex(0xb07c35),
	"violet": hex(0x7a64a8), "golden": hex(0xb8913c),
}

var skins = []rgb{hex(0xf3d3bd), hex(0xeec2a3), hex(0xe3ae8b), hex(0xd29a73), hex(0xb97f58), hex(0x96623f), hex(0x734a31), hex(0xf0ccb0), hex(0xc98f66)}

var garments = "dress shirt coat jacket suit sweater jumper hoodie robe blouse cloak cape uniform kimono jersey top clothes clothing scarf hat beret armor armour tunic kleid mantel hemd"

// effects are words that set traits by themselves.
var effects = map[string]func(*traits){
	"man": masculine, "men": masculine, "boy": masculine, "gentleman": masculine, "king": func(t *traits) { masculine(t); t.hat = crown }, "prince": func(t *traits) { masculine(t); t.hat = crown },
	"father": masculine, "he": masculine, "male": masculine, "mann": masculine, "junge": masculine, "grandfather": func(t *traits) { masculine(t); old(t) },
	"woman": feminine, "girl": feminine, "lady": feminine, "queen": func(t *traits) { feminine(t); t.hat = crown }, "princess": func(t *traits) { feminine(t); t.hat = crown },
	"mother": feminine, "she": feminine, "female": feminine, "frau": feminine, "mädchen": feminine, "grandmother": func(t *traits) { feminine(t); old(t); t.style = bun },
	"old": old, "elderly": old, "aged": old, "wise": old, "alt": old, "alte": old, "alter": old, "wizard": func(t *traits) { masculine(t); old(t); t.beard, t.hat = 1, hood }, "witch": func(t *traits) { feminine(t); t.hat = brim },
	"young": func(t *traits) { t.age = 0 }, "child": func(t *traits) { t.age = 0; t.beard = 0 },
	"beard": func(t *traits) { t.beard = 1 }, "bearded": func(t *traits) { t.beard = 1 }, "stubble": func(t *traits) { t.beard = 0.45 }, "moustache": func(t *traits) { t.beard = 0.6 },
	"glasses": func(t *traits) { t.glasses = true }, "spectacles": func(t *traits) { t.glasses = true }, "librarian": func(t *traits) { t.glasses = true }, "scientist": func(t *traits) { t.glasses = true }, "professor": func(t *traits) { t.glasses = true }, "brille": func(t *traits) { t.glasses = true },
	"freckles": func(t *traits) { t.freckles = true }, "freckled": func(t *traits) { t.freckles = true }, "earrings": func(t *traits) { t.earrings = true }, "jewelry": func(t *traits) { t.earrings = true },
	"smiling": func(t *traits) { t.smile = 1 }, "smile": func(t *traits) { t.smile = 1 }, "happy": func(t *traits) { t.smile = 1 }, "cheerful": func(t *traits) { t.smile = 1 }, "joyful": func(t *traits) { t.smile = 1 }, "friendly": func(t *traits) { t.smile = 0.8 },
	"serious": func(t *traits) { t.smile = -0.4 }, "sad": func(t *traits) { t.smile = -1 }, "melancholic": func(t *traits) { t.smile = -0.7 }, "stern": func(t *traits) { t.smile = -0.6 }, "angry": func(t *traits) { t.smile = -0.9 },
	"short": func(t *traits) { t.style = cropped }, "bob": func(t *traits) { t.style = bob }, "long": func(t *traits) { t.style = long }, "wavy": func(t *traits) { t.style = wavy }, "curly": func(t *traits) { t.style = curls }, "curls": func(t *traits) { t.style = curls }, "afro": func(t *traits) { t.style = curls },
	"bun": func(t *traits) { t.style = bun }, "updo": func(t *traits) { t.style = bun }, "bald": func(t *traits) { t.style = bald },
	"suit": func(t *traits) { t.collar = suit }, "tie": func(t *traits) { t.collar = suit }, "jacket": func(t *traits) { t.collar = suit }, "coat": func(t *traits) { t.collar = suit }, "business": func(t *traits) { t.collar = suit },
	"turtleneck": func(t *traits) { t.collar = turtleneck }, "sweater": func(t *traits) { t.collar = turtleneck }, "scarf": func(t *traits) { t.collar = scarf }, "dress": func(t *traits) { t.collar = vneck }, "blouse": func(t *traits) { t.collar = vneck },
	"striped": func(t *traits) { t.stripes = true }, "stripes": func(t *traits) { t.stripes = true }, "sailor": func(t *traits) { t.stripes, t.place = true, sea },
	"hat": func(t *traits) { t.hat = brim }, "cowboy": func(t *traits) { t.hat = brim }, "beret": func(t *traits) { t.hat = beret }, "artist": func(t *traits) { t.hat = beret }, "painter": func(t *traits) { t.hat = beret }, "crown": func(t *traits) { t.hat = crown }, "hood": func(t *traits) { t.hat = hood }, "cloak": func(t *traits) { t.hat = hood }, "hoodie": func(t *traits) { t.hat = hood },
	"mountain": at(mountains), "mountains": at(mountains), "alps": at(mountains), "hills": at(mountains), "landscape": at(mountains), "desert": at(mountains), "berge": at(mountains), "sunset": at(mountains),
	"forest": at(forest), "woods": at(forest), "tree": at(forest), "trees": at(forest), "jungle": at(forest), "wald": at(forest), "elf": at(forest),
	"sea": at(sea), "ocean": at(sea), "beach": at(sea), "coast": at(sea), "lake": at(sea), "river": at(sea), "harbor": at(sea), "pirate": at(sea), "captain": at(sea), "meer": at(sea),
	"city": at(city), "street": at(city), "urban": at(city), "skyline": at(city), "cyberpunk": func(t *traits) { t.place, t.night = city, true }, "noir": func(t *traits) { t.place, t.night = city, true }, "detective": func(t *traits) { t.place, t.hat = city, brim }, "stadt": at(city),
	"stars": at(stars), "space": at(stars), "galaxy": at(stars), "astronaut": at(stars), "cosmic": at(stars), "night": func(t *traits) { t.night = true }, "moon": at(stars), "midnight": at(stars), "nacht": func(t *traits) { t.night = true },
	"garden": at(garden), "flowers": func(t *traits) { t.place, t.flower = garden, true }, "flower": func(t *traits) { t.flower = true }, "spring": at(garden), "meadow": at(garden), "floral": func(t *traits) { t.place, t.flower = garden, true }, "garten": at(garden),
	"studio": at(studio), "fox": animal(hex(0xb8622f), forest), "fuchs": animal(hex(0xb8622f), forest), "cat": animal(hex(0x8f8378), studio), "katze": animal(hex(0x8f8378), studio), "wolf": animal(hex(0x86868c), mountains), "catgirl": animal(hex(0x4a3c3a), city),
	"viking": func(t *traits) { masculine(t); t.beard, t.place = 1, sea }, "knight": at(mountains), "hacker": func(t *traits) { t.hat, t.glasses = hood, true },
}

func masculine(t *traits) { t.feminine = 0.1 }
func feminine(t *traits)  { t.feminine, t.beard = 0.95, 0 }
func old(t *traits)       { t.age = 1 }
func at(p place) func(*traits) {
	return func(t *traits) { t.place = p }
}

// animal gives the person the colours and ears of one: this renderer draws nothing but portraits.
func animal(fur rgb, p place) func(*traits) {
	return func(t *traits) { t.animal, t.hair, t.place, t.style = true, fur, p, bob }
}

// read derives the traits from prompt, negative prompt and seed. Words win over the seed, the negative prompt over both.
func read(prompt, negative string, seed int64) (traits, *rand.Rand) {
	words := split(prompt)
	mixed := fnv.New64a()
	mixed.Write([]byte(strings.Join(words, " ")))
	mixed.Write([]byte{0})
	mixed.Write([]byte(strings.Join(split(negative), " ")))
	random := rand.New(rand.NewPCG(uint64(seed), mixed.Sum64()))
	t := imagine(random)
	t.apply(words)
	t.reconcile(words, random)
	t.withdraw(split(negative))
	return t, random
}

// reconcile keeps what chance drew from contradicting what words asked for.
func (t *traits) reconcile(words []string, random *rand.Rand) {
	styled := hasAny(words, effectsOfHair)
	masculine, lucky := t.feminine < 0.4, random.Float64()
	switch {
	case t.animal || styled && t.style != bald:
	case !styled && masculine && (t.style == long || t.style == bob || t.style == bun) && lucky < 0.92:
		t.style = []hairStyle{cropped, swept}[random.IntN(2)]
	case !styled && t.style == bald && (!masculine || hasAny(words, hairWords)):
		t.style = []hairStyle{long, wavy, bob, curls}[random.IntN(4)]
	case !styled && !masculine && t.style == cropped && lucky < 0.6:
		t.style = bun
	}
	if masculine {
		t.earrings = false
		if t.beard == 0 && !hasAny(words, strings.Fields("boy child shaven beardless")) && random.Float64() < 0.4 {
			t.beard = mix(0.35, 1, random.Float64())
		}
	}
	if t.age > 0.8 && !hasAny(words, hairWords) {
		t.hair = t.hair.mix(hex(0xc4c2c2), 0.75)
	}
}

var (
	effectsOfHair = strings.Fields("short bob long wavy curly curls afro bun updo bald")
	hairWords     = strings.Fields("hair haired beard blond blonde brunette redhead ginger haare")
)

func hasAny(words, wanted []string) bool {
	for _, w := range wanted {
		for _, word := range words {
			if w == word {
				return true
			}
		}
	}
	return false
}

func split(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// imagine draws traits that nothing was said about.
func imagine(random *rand.Rand) traits {
	chance := func(p float64) bool { return random.Float64() < p }
	natural := []string{"black", "dark", "brown", "brown", "chestnut", "auburn", "ginger", "blonde", "golden", "grey", "black", "strawberry"}
	eyes := []string{"brown", "dark", "hazel", "green", "blue", "grey", "amber", "brown"}
	cloths := []string{"crimson", "olive", "teal", "navy", "blue", "violet", "rose", "emerald", "brown", "orange", "grey", "yellow", "lavender", "black", "beige"}
	pick := func(names []string) string { return names[random.IntN(len(names))] }
	t := traits{
		skin: skins[random.IntN(len(skins))], hair: hairColours[pick(natural)], eyes: eyeColours[pick(eyes)],
		cloth: colours[pick(cloths)], accent: colours[pick(cloths)],
		style: hairStyle(random.IntN(int(hairStyles))), collar: collar(random.IntN(int(collars))), place: place(random.IntN(int(places))),
		night: chance(0.12), age: random.Float64() * 0.7, feminine: random.Float64(), smile: mix(-0.2, 0.9, random.Float64()),
		glasses: chance(0.18), earrings: chance(0.3), freckles: chance(0.18), stripes: chance(0.2), flower: chance(0.08),
	}
	if t.style == bald && chance(0.5) {
		t.style = cropped
	}
	if chance(0.14) {
		t.hat = hat(1 + random.IntN(2))
	}
	return t
}

// apply lets each word have its effect; a colour belongs to the noun that follows it.
func (t *traits) apply(words []string) {
	for i, word := range words {
		if effect := effects[word]; effect != nil {
			effect(t)
		}
		noun := ""
		for _, next := range words[i+1 : min(len(words), i+4)] {
			if next == "hair" || next == "haired" || next == "haare" || next == "curls" || next == "beard" || next == "eyes" || next == "eyed" || next == "augen" || strings.Contains(" "+garments+" ", " "+next+" ") {
				noun = next
				break
			}
		}
		t.colour(word, noun)
	}
}

func (t *traits) colour(word, noun string) {
	c, isColour := colours[word]
	h, isHair := hairColours[word]
	e, isEyes := eyeColours[word]
	switch {
	case strings.HasPrefix(noun, "eye") || noun == "augen":
		if isEyes {
			t.eyes = e
		}
	case strings.HasPrefix(noun, "hair") || noun == "haare" || noun == "curls" || noun == "beard":
		if isHair {
			t.hair = h
		} else if isColour {
			t.hair = c
		}
	case word == "blond" || word == "blonde" || word == "brunette" || word == "redhead" || word == "ginger" || word == "auburn":
		t.hair = h
	case isColour:
		t.accent, t.cloth = t.cloth, c
	}
}

// withdraw takes away what the negative prompt names.
func (t *traits) withdraw(words []string) {
	for _, word := range words {
		switch word {
		case "glasses", "spectacles":
			t.glasses = false
		case "beard", "moustache", "stubble":
			t.beard = 0
		case "hat", "beret", "crown", "hood":
			t.hat = noHat
		case "freckles":
			t.freckles = false
		case "earrings", "jewelry":
			t.earrings = false
		case "smile", "smiling":
			t.smile = min(t.smile, -0.1)
		case "stripes", "striped":
			t.stripes = false
		case "flower", "flowers":
			t.flower = false
		case "night", "dark":
			t.night = false
		case "background":
			t.place = studio
		}
	}
}

package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"muster/shared/gpu"
	"muster/shared/job"
)

// persona is a made-up person. The same seed gives the same one.
type persona struct {
	Name        string `json:"name"`
	Age         int    `json:"age"`
	Appearance  string `json:"appearance"`
	Personality string `json:"personality"`
	Style       string `json:"style"`
	Seed        int64  `json:"seed"`
}

// Ages of made-up people: all are grown up.
const (
	minAge = 20
	maxAge = 79
)

// people is a name and a word for who carries it; a name and a look from one row fit together.
type people struct {
	who      string
	pronoun  string
	given    []string
	families []string
	skin     []string
	hair     []string
}

var (
	families   = []string{"Almeida", "Novak", "Lindqvist", "Moreau", "Castellano", "Baumann", "O'Rourke", "Petrov", "Virtanen", "Papadaki"}
	familiesE  = []string{"Tanaka", "Chen", "Park", "Nguyen", "Sato", "Lim", "Wong", "Takahashi"}
	familiesS  = []string{"Rao", "Haddad", "Rahimi", "Kaur", "Farouk", "Sharma", "Demir", "Mizrahi"}
	familiesA  = []string{"Okafor", "Mensah", "Abebe", "Diallo", "Nkosi", "Achieng", "Baptiste", "Toure"}
	fair       = []string{"fair freckled skin", "light olive skin", "pale skin with a warm flush", "sun-tanned skin"}
	lightBrown = []string{"light golden skin", "smooth warm beige skin", "light tan skin"}
	brown      = []string{"warm brown skin", "deep olive skin", "bronze skin"}
	dark       = []string{"deep brown skin", "rich dark skin", "dark skin with golden undertones"}
	anyHair    = []string{"copper-red curls", "wavy chestnut hair", "short ash-blond hair", "straight dark-brown hair", "tousled honey-blond hair"}
	blackHair  = []string{"sleek black hair", "short black hair swept to one side", "black hair in a loose knot", "chin-length black hair"}
	coilyHair  = []string{"a crown of tight black coils", "long thin braids", "a close-cropped fade", "short natural twists"}
	peoples    = []people{
		{"woman", "she", []string{"Ines", "Clara", "Freya", "Elodie", "Mila", "Saoirse"}, families, fair, anyHair},
		{"man", "he", []string{"Mateo", "Anton", "Emil", "Luca", "Viktor", "Cormac"}, families, fair, anyHair},
		{"woman", "she", []string{"Yuki", "Mei", "Ji-won", "Linh", "Hana"}, familiesE, lightBrown, blackHair},
		{"man", "he", []string{"Kenji", "Wei", "Min-jun", "Bao", "Haruto"}, familiesE, lightBrown, blackHair},
		{"woman", "she", []string{"Anjali", "Layla", "Shirin", "Simran", "Noor"}, familiesS, brown, blackHair},
		{"man", "he", []string{"Arjun", "Karim", "Dariush", "Kabir", "Emre"}, familiesS, brown, blackHair},
		{"woman", "she", []string{"Amara", "Zola", "Makena", "Efua", "Nia"}, familiesA, dark, coilyHair},
		{"man", "he", []string{"Kwame", "Tendai", "Chidi", "Idris", "Sekou"}, familiesA, dark, coilyHair},
	}
	builds   = []string{"tall and slender", "broad-shouldered", "compact and athletic", "of medium height", "softly built", "long-limbed"}
	eyes     = []string{"hazel", "dark brown", "amber", "deep black", "warm brown", "nearly golden"}
	features = []string{"laughter lines", "a small scar above one eyebrow", "round wire glasses", "a dimple in one cheek", "strong dark eyebrows", "a slightly crooked nose", "high cheekbones", "an old sunburn on the nose"}
	clothes  = []string{"a mustard-yellow raincoat", "a navy fisherman's sweater", "a linen shirt with rolled sleeves", "a worn leather jacket", "an embroidered waistcoat", "a forest-green corduroy blazer", "a paint-stained apron", "a charcoal turtleneck", "a bright patterned scarf over a plain coat"}
	places   = []string{"in a sunlit greenhouse", "on a windy harbour wall", "in a workshop full of clocks", "at a night market", "on a mountain path at dawn", "in a quiet library", "under cherry trees after rain", "in a small radio studio"}
	tempers  = []string{"patient and observant", "quick-witted and warm", "quietly stubborn", "endlessly curious", "calm under pressure", "mischievous but loyal", "dreamy and precise at once", "bold and generous"}
	works    = []string{"repairs old radios", "maps caves", "bakes before sunrise", "teaches astronomy to children", "restores violins", "pilots a ferry", "breeds drought-proof tomatoes", "translates forgotten poems", "builds bicycles", "keeps bees on a roof"}
	quirks   = []string{"talks to plants", "never forgets a tune", "collects train tickets", "hates being late", "laughs before the joke is over", "writes letters by hand", "can't resist a detour", "names every machine"}
)

// newPersona makes up a person from a seed.
func newPersona(seed int64) persona {
	rng := rand.New(rand.NewPCG(uint64(seed), 0x6d7573746572)) // "muster": another stream than other users of the seed
	one := func(of []string) string { return of[rng.IntN(len(of))] }
	who := peoples[rng.IntN(len(peoples))]
	age := minAge + rng.IntN(maxAge-minAge+1)
	hair := one(who.hair)
	if age >= 60 {
		hair = "silver " + strings.NewReplacer("black ", "", "dark-brown ", "", "ash-blond ", "", "honey-blond ", "", "chestnut ", "", "copper-red ", "").Replace(hair)
		hair = strings.Replace(hair, "silver a ", "a silver ", 1)
	}
	return persona{
		Name: one(who.given) + " " + one(who.families), Age: age, Seed: seed, Style: styles[rng.IntN(len(styles))].name,
		Appearance: fmt.Sprintf("%s %s of %d, %s, with %s, %s eyes, %s and %s, wearing %s, %s",
			indefinite(ageWord(age)), who.who, age, one(builds), one(who.skin), one(eyes), hair, one(features), one(clothes), one(places)),
		Personality: fmt.Sprintf("%s; %s %s and %s", one(tempers), who.pronoun, one(works), one(quirks)),
	}
}

func ageWord(age int) string {
	switch {
	case age < 35:
		return "young"
	case age < 60:
		return "middle-aged"
	default:
		return "elderly"
	}
}

func indefinite(word string) string {
	if strings.ContainsAny(word[:1], "aeiou") {
		return "an " + word
	}
	return "a " + word
}

// personaAsk is what a client may ask of a made-up persona, by query or by body: the images' parameters are those of sampleAsk.
// nil and "" are left out.
type personaAsk struct {
	Seed           *int64   `json:"seed"`
	GenerateImages *bool    `json:"generate_images"`
	Count          *int     `json:"count"`
	Resolution     string   `json:"resolution"`
	Quality        string   `json:"quality"`
	Style          string   `json:"style"`
	ImageModel     string   `json:"image_model"`
	DeviceID       *gpu.Ref `json:"device_id"`
}

// parsePersonaAsk reads the query, then the body over it, as parseSampleAsk does. Seed is set in what it gives.
func parsePersonaAsk(rawQuery string, body []byte) (personaAsk, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return personaAsk{}, invalid("query", "is not well-formed: %s", cut(err.Error()))
	}
	images, err := sampleQuery(values)
	if err != nil {
		return personaAsk{}, err
	}
	ask := personaAsk{Count: images.Count, Resolution: images.Resolution, Quality: images.Quality, Style: images.Style, ImageModel: images.ImageModel, DeviceID: images.DeviceID}
	if text := values.Get("seed"); text != "" {
		seed, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return personaAsk{}, invalid("seed", "is %q; allowed is a whole number from 0 to %d", cut(text), int64(job.MaxSeed))
		}
		ask.Seed = &seed
	}
	if text := values.Get("generate_images"); text != "" {
		wanted, err := strconv.ParseBool(text)
		if err != nil {
			return personaAsk{}, invalid("generate_images", "is %q; allowed are true and false", cut(text))
		}
		ask.GenerateImages = &wanted
	}
	if len(strings.TrimSpace(string(body))) > 0 {
		if err := decodeJSON(body, &ask); err != nil {
			return personaAsk{}, err
		}
	}
	if ask.Seed == nil {
		ask.Seed = new(rand.Int64N(job.MaxSeed + 1))
	}
	if *ask.Seed < 0 || *ask.Seed > job.MaxSeed {
		return personaAsk{}, invalid("seed", "is %d; allowed is a whole number from 0 to %d", *ask.Seed, int64(job.MaxSeed))
	}
	return ask, nil
}

// samples is what the images of a persona are asked with.
func (a personaAsk) samples(made persona) sampleAsk {
	return sampleAsk{
		Appearance: made.Appearance, Personality: made.Personality, Resolution: a.Resolution, Quality: a.Quality, Style: made.Style,
		ImageModel: a.ImageModel, Count: a.Count, DeviceID: a.DeviceID,
	}
}

// randomPersona answers POST /api/v1/personas/random[?generate_images=true&count=4&seed=N], with the other parameters of
// generate-sample-images for its images.
func (s *Server) randomPersona(w http.ResponseWriter, r *http.Request) error {
	body, err := s.readHeld(w, r)
	if err != nil {
		return err
	}
	ask, err := parsePersonaAsk(r.URL.RawQuery, body)
	if err != nil {
		return err
	}
	made := newPersona(*ask.Seed)
	if ask.Style != "" {
		made.Style = ask.Style
	}
	spec, err := ask.samples(made).spec()
	if err != nil {
		return err
	}
	if ask.GenerateImages == nil || !*ask.GenerateImages {
		writeJSON(w, http.StatusOK, made)
		return nil
	}
	spec.Seed = ask.Seed
	jobs, err := s.makeSamples(r, spec)
	if err != nil {
		return err
	}
	head, err := json.Marshal(made)
	if err != nil {
		return err
	}
	return s.writeSamples(w, append(head[:len(head)-1], ','), jobs)
}

package sampler

import (
	"slices"
	"strings"
	"testing"
)

// What the programs say of themselves: ComfyUI's comfy/samplers.py, sd-server's help, and the lists of A1111, Forge and koboldcpp.
var (
	comfyUI = &List{
		Samplers: Named(strings.Fields("euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms dpm_fast dpm_adaptive dpmpp_2s_ancestral " +
			"dpmpp_sde dpmpp_2m dpmpp_2m_sde dpmpp_2m_sde_heun dpmpp_3m_sde ddpm lcm ipndm ipndm_v deis res_multistep ddim uni_pc uni_pc_bh2")...),
		Schedules: Named(strings.Fields("simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal")...),
	}
	sdServer = &List{
		Samplers:  Named(strings.Fields("euler euler_a heun dpm2 dpm++2s_a dpm++2m dpm++2mv2 ipndm ipndm_v lcm ddim_trailing tcd res_multistep dpm++2m_sde lms")...),
		Schedules: Named(strings.Fields("discrete karras exponential ays gits sgm_uniform simple smoothstep kl_optimal lcm")...),
	}
	webUI = &List{
		Samplers: []Name{{"DPM++ 2M", []string{"k_dpmpp_2m"}}, {"DPM++ 2S a", []string{"k_dpmpp_2s_a"}}, {"Euler a", []string{"k_euler_a", "k_euler_ancestral"}}, {"Euler", []string{"k_euler"}},
			{"DPM2 a", []string{"k_dpm_2_a"}}, {"PLMS", []string{"plms"}}, {"UniPC", []string{"unipc"}}},
		Schedules: []Name{{"Automatic", []string{"automatic"}}, {"Karras", []string{"karras"}}, {"SGM Uniform", []string{"sgm_uniform", "SGMUniform"}}, {"Normal", nil}},
	}
)

func TestFind(t *testing.T) {
	t.Parallel()
	type names struct{ sampler, schedule string }
	for _, test := range []struct {
		wanted                   string
		comfyUI, sdServer, webUI names // zero: not known
	}{
		{"Euler a", names{"euler_ancestral", ""}, names{"euler_a", ""}, names{"Euler a", ""}},
		{"k_euler_ancestral", names{"euler_ancestral", ""}, names{"euler_a", ""}, names{"Euler a", ""}},
		{"euler", names{"euler", ""}, names{"euler", ""}, names{"Euler", ""}},
		{"EULER ", names{"euler", ""}, names{"euler", ""}, names{"Euler", ""}},
		{"DPM++ 2M", names{"dpmpp_2m", ""}, names{"dpm++2m", ""}, names{"DPM++ 2M", ""}},
		{"dpmpp_2m_karras", names{"dpmpp_2m", "karras"}, names{"dpm++2m", "karras"}, names{"DPM++ 2M", "Karras"}},
		{"DPM++ 2M SGM Uniform", names{"dpmpp_2m", "sgm_uniform"}, names{"dpm++2m", "sgm_uniform"}, names{"DPM++ 2M", "SGM Uniform"}},
		{"Euler discrete", names{"euler", "normal"}, names{"euler", "discrete"}, names{"Euler", "Normal"}},
		{"Euler normal", names{"euler", "normal"}, names{"euler", "discrete"}, names{"Euler", "Normal"}},
		{"DPM++ 2S a", names{"dpmpp_2s_ancestral", ""}, names{"dpm++2s_a", ""}, names{"DPM++ 2S a", ""}},
		{"DPM2 a", names{"dpm_2_ancestral", ""}, names{}, names{"DPM2 a", ""}},
		{"DPM2", names{"dpm_2", ""}, names{"dpm2", ""}, names{}},
		{"PLMS", names{"ipndm", ""}, names{"ipndm", ""}, names{"PLMS", ""}},
		{"DDIM", names{"ddim", ""}, names{"ddim_trailing", ""}, names{}},
		{"UniPC", names{"uni_pc", ""}, names{}, names{"UniPC", ""}},
		{"lcm", names{"lcm", ""}, names{"lcm", ""}, names{}},
		{"Karras", names{}, names{}, names{}},
		{"", names{}, names{}, names{}},
		{"no such", names{}, names{}, names{}},
	} {
		for _, program := range []struct {
			list *List
			want names
		}{{comfyUI, test.comfyUI}, {sdServer, test.sdServer}, {webUI, test.webUI}, {&List{}, names{}}} {
			sampler, schedule, ok := program.list.Find(test.wanted)
			if (names{sampler, schedule}) != program.want || ok != (program.want.sampler != "") {
				t.Errorf("%q: %q %q %v, want %v", test.wanted, sampler, schedule, ok, program.want)
			}
		}
	}
}

// Every name that a program lists is found by itself, and by its name for people.
func TestEveryNameIsFound(t *testing.T) {
	t.Parallel()
	for _, list := range []*List{comfyUI, sdServer, webUI} {
		titles := list.Titles()
		for i, n := range list.Samplers {
			for _, wanted := range append([]string{n.Own, titles[i]}, n.Aliases...) {
				if sampler, schedule, ok := list.Find(wanted); !ok || sampler != n.Own || schedule != "" {
					t.Errorf("%q of %q: %q %q %v", wanted, n.Own, sampler, schedule, ok)
				}
			}
		}
	}
}

func TestKnows(t *testing.T) {
	t.Parallel()
	var unknown *List
	none := &List{}
	if !unknown.Knows("anything") || !none.Knows("") || none.Knows("Euler") || !sdServer.Knows("Euler a") || sdServer.Knows("Restart") {
		t.Error("nil may have anything, the zero value nothing")
	}
}

func TestWith(t *testing.T) {
	t.Parallel()
	both := sdServer.With(webUI)
	if n := len(both.Samplers); n != len(sdServer.Samplers)+2 { // PLMS is ipndm
		t.Errorf("%d samplers: %v", n, both.Titles())
	}
	if !both.Knows("UniPC") || !both.Knows("tcd") {
		t.Error("a union has what both have")
	}
	if len(sdServer.Samplers) != 15 {
		t.Error("With has changed its receiver")
	}
}

// What one has must not be joined with what another has: nobody knows both.
func TestLists(t *testing.T) {
	t.Parallel()
	one, two := &List{Samplers: Named("uni_pc"), Schedules: Named("beta")}, &List{Samplers: Named("tcd"), Schedules: Named("gits")}
	for _, tt := range []struct {
		all                  Lists
		wanted               string
		knows, known, silent bool
	}{
		{nil, "x", true, false, false}, {Lists{one, two}, "UniPC beta", true, true, false}, {Lists{one, two}, "UniPC gits", false, true, false}, {Lists{one, nil}, "x", true, false, false},
		{Lists{one, {}}, "tcd", false, true, true}, {Lists{one, {}}, "", true, true, true},
	} {
		if knows, known, silent := tt.all.Knows(tt.wanted), tt.all.Known(), tt.all.Silent(); knows != tt.knows || known != tt.known || silent != tt.silent {
			t.Errorf("%v, %q: %v %v %v", tt.all, tt.wanted, knows, known, silent)
		}
	}
	if got := (Lists{one, nil, two}).Union(); len(got.Samplers) != 2 || len(got.Schedules) != 2 {
		t.Errorf("%+v", got.Titles())
	}
}

func BenchmarkFind(b *testing.B) {
	for b.Loop() {
		for _, wanted := range []string{"Euler a", "DPM++ 2M Karras", "no such sampler"} {
			sdServer.Find(wanted)
		}
	}
}

func TestTitles(t *testing.T) {
	t.Parallel()
	if got := comfyUI.Titles(); !slices.Contains(got, "DPM++ 2M SDE Heun") || !slices.Contains(got, "Euler a") || !slices.Contains(got, "res_multistep") {
		t.Error(got)
	}
	if got := sdServer.ScheduleTitles(); !slices.Contains(got, "SGM Uniform") || !slices.Contains(got, "gits") {
		t.Error(got)
	}
}

func FuzzFind(f *testing.F) {
	for _, seed := range []string{"Euler a", "DPM++ 2M Karras", "", "k_", "karras", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, wanted string) {
		for _, list := range []*List{comfyUI, sdServer, webUI} {
			sampler, schedule, ok := list.Find(wanted)
			own := func(names []Name, name string) bool {
				return slices.ContainsFunc(names, func(n Name) bool { return n.Own == name })
			}
			if wanted != "" { // what a program calls something is what it is asked for
				alone := &List{Samplers: Named(wanted), Schedules: list.Schedules}
				if sampler, _, ok := alone.Find(wanted); !ok || sampler != wanted {
					t.Fatalf("%q is not found under its own name", wanted)
				}
			}
			if ok != own(list.Samplers, sampler) || schedule != "" && !own(list.Schedules, schedule) {
				t.Fatalf("%q: %q %q %v", wanted, sampler, schedule, ok)
			}
		}
	})
}

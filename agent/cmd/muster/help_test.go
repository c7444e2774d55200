package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpOf gives the help of a command line.
func helpOf(t *testing.T, args ...string) string {
	t.Helper()
	var out strings.Builder
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The help of a subcommand shows its own flags and where the settings are; that of serve and of the program itself shows every setting.
func TestHelpShowsWhatIsTheCommandsOwn(t *testing.T) {
	t.Parallel()
	const elsewhere = "see muster serve --help"
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		text := helpOf(t, append(path, "--help")...)
		every := len(path) == 0 || len(path) == 1 && path[0] == "serve"
		if got := strings.Contains(text, "--sd-server") && strings.Contains(text, "--max-clients"); got != every {
			t.Errorf("%s shows the settings: %v\n%s", cmd.CommandPath(), got, text)
		}
		if strings.Contains(text, elsewhere) != (!every && takesSettings(cmd)) {
			t.Errorf("%s says where the settings are: %v", cmd.CommandPath(), strings.Contains(text, elsewhere))
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(text, "--"+f.Name) {
				t.Errorf("%s does not show its --%s", cmd.CommandPath(), f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub, append(path[:len(path):len(path)], sub.Name()))
		}
	}
	walk(command(), nil)
	if text := helpOf(t, "help", "gpus"); !strings.Contains(text, "--details") || strings.Contains(text, "--sd-server") {
		t.Errorf("muster help gpus:\n%s", text)
	}
	if text := helpOf(t, "devices", "pause", "--help"); !strings.Contains(text, "--json") {
		t.Errorf("a flag that its own parent has is not shown:\n%s", text)
	}
	serve := helpOf(t, "serve", "--help")
	if strings.Index(serve, "--listen") > strings.Index(serve, "--allow-host") || strings.Index(serve, "--config") > strings.Index(serve, "--listen") {
		t.Errorf("the settings are not in their order:\n%s", serve)
	}
}

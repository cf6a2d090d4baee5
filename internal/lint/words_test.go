package lint

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// forbidden are words that no file of the tree has, and why. They are put
// together from pieces, so that this file does not have them either.
func forbidden() map[string]string {
	const (
		unfinished = "finish it, or open an issue"
		machine    = "a path of somebody's machine"
		registry   = "a package registry: its client knows where it is"
	)
	return map[string]string{
		"TO" + "DO": unfinished, "FIX" + "ME": unfinished, "XX" + "X": unfinished,
		"/wo" + "rk/": machine, "/ro" + "ot/": machine, "/tm" + "p/h/": machine,
		"proxy.gol" + "ang.org": registry, "sum.gol" + "ang.org": registry, "registry.np" + "mjs": registry,
		"py" + "pi.org": registry, "deb.deb" + "ian.org": registry, "crates" + ".io": registry,
	}
}

func TestWords(t *testing.T) {
	for _, name := range allFiles(t) {
		if name == "go.sum" {
			continue
		}
		text := read(t, name)
		if !isText(text) {
			continue
		}
		for word, why := range forbidden() {
			if !strings.Contains(text, word) {
				continue
			}
			whole := regexp.MustCompile(`(^|[^\w.])` + regexp.QuoteMeta(word) + `($|\W|\b)`)
			for i, line := range strings.Split(text, "\n") {
				if whole.MatchString(line) {
					t.Errorf("%s:%d: %q: %s", name, i+1, word, why)
				}
			}
		}
	}
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// TestGoIsPlain: the Go files are UTF-8 without carriage returns.
func TestGoIsPlain(t *testing.T) {
	for _, f := range goFiles(t, true) {
		if text := read(t, f.path); !isText(text) || strings.Contains(text, "\r") {
			t.Errorf("%s is not plain text", f.path)
		}
	}
}

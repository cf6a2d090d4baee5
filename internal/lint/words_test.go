package lint

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// forbidden are words that no file of the tree has. They are put together from
// pieces, so that this file does not have them either.
func forbidden() map[string]string {
	return map[string]string{
		`\bTO` + `DO\b|\bFIX` + `ME\b|\bXX` + `X\b`:      "finish it, or open an issue",
		`(^|[^\w.])/wo` + `rk/|/ro` + `ot/|/tm` + `p/h/`: "a path of somebody's machine",
		`proxy\.gol` + `ang\.org|sum\.gol` + `ang\.org|registry\.np` + `mjs|py` + `pi\.org|deb\.deb` + `ian\.org|crates\.i` + `o\b`: "a package registry: its client knows where it is",
	}
}

// TestWords also sees that text is UTF-8 and has the line ends of Unix.
func TestWords(t *testing.T) {
	for word, why := range forbidden() {
		re := regexp.MustCompile(word)
		for _, name := range allFiles(t) {
			if name == "go.sum" {
				continue
			}
			text := read(t, name)
			if !isText(text) {
				continue
			}
			for i, line := range strings.Split(text, "\n") {
				if m := re.FindString(line); m != "" {
					t.Errorf("%s:%d: %q: %s", name, i+1, m, why)
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

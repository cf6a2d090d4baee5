package imaptest

import (
	"io/fs"
	"strings"
	"testing"
)

// TestTranscriptsAreShort sees that all transcripts parse and stay readable.
func TestTranscriptsAreShort(t *testing.T) {
	scripts, err := loadScripts(Transcripts())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		data, err := fs.ReadFile(Transcripts(), s.name+".txtar")
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(data), "\n"); n >= 60 {
			t.Errorf("%s has %d lines; write one transcript for each behaviour", s.name, n)
		}
		if len(s.steps) < 2 {
			t.Errorf("%s does nothing", s.name)
		}
	}
}

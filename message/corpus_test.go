package message_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/message"
)

// TestCorpus checks every file in the folder that ROOKERY_CORPUS names, where
// it is set: as it is, with its line ends made CRLF, and under tight limits.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("ROOKERY_CORPUS")
	if dir == "" {
		t.Skip("ROOKERY_CORPUS names no folder of mail; the other tests use messages of their own")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".eml"), func(t *testing.T) {
			checkMessage(t, raw, message.Limits{})
			crlf := bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
			checkMessage(t, crlf, message.Limits{})
			checkMessage(t, raw, message.Limits{Depth: 2, Parts: 3, HeaderBytes: 500, HeaderFields: 5, Addresses: 2, TextBytes: 300})
		})
	}
}

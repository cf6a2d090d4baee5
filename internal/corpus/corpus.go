// Package corpus reads the folder of mail that ROOKERY_CORPUS names: real
// messages, as odd as they come, for tests on a machine that has some. They are
// no part of the repository. Start with [Messages].
package corpus

import (
	"os"
	"path/filepath"
	"testing"
)

// A Message is one file, as it is.
type Message struct {
	Name string // of the file, without its folder
	Raw  []byte
}

// Messages returns all messages, in the order of their names, and none where
// ROOKERY_CORPUS is not set. A folder without files ends the test.
func Messages(tb testing.TB) []Message {
	tb.Helper()
	dir := os.Getenv("ROOKERY_CORPUS")
	if dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no files in ROOKERY_CORPUS %s: %v", dir, err)
	}
	var all []Message
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, Message{filepath.Base(file), raw})
	}
	return all
}

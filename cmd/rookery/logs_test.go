package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// traced is an error that says where it comes from when it is asked at length.
type traced struct{ text string }

func (e traced) Error() string { return e.text }

func (e traced) Format(f fmt.State, verb rune) {
	fmt.Fprint(f, e.text)
	if f.Flag('+') {
		fmt.Fprint(f, "\n-- stack trace:\nmain.go:17")
	}
}

// An error in the log is one line, without stacks.
func TestShortError(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: shortError}))
	log.Warn("it failed", "err", traced{"no such file"}, "dir", "d")
	log.Warn("both failed", "err", traced{"one\nanother"})
	got := out.String()
	if strings.Contains(got, "stack") || !strings.Contains(got, `err="no such file" dir=d`) || !strings.Contains(got, `err="one; another"`) {
		t.Errorf("the log has %s", got)
	}
}

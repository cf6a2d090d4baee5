package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/rookery-mail/rookery/imapserver"
)

func TestPageIsCurrent(t *testing.T) {
	exts, err := extensions()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/extensions.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, document(exts)) {
		t.Error("docs/extensions.md is stale; run `go generate ./internal/gendocs`")
	}
}

// TestEveryFeatureHasAName sees that the last column can name all there are.
func TestEveryFeatureHasAName(t *testing.T) {
	exts, err := extensions()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exts {
		for _, name := range features(e.Needs) {
			if name[0] == '0' {
				t.Errorf("%s needs %s", e.Name, name)
			}
		}
	}
	if got := features(imapserver.FeatureHistory | imapserver.FeatureUTF8); len(got) != 2 {
		t.Errorf("got %q", got)
	}
}

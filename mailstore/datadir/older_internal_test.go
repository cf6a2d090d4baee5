package datadir

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
)

// Who may not change a folder refuses an older one, and says what to do.
func TestOlderIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	d, err := Open(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = open(fs, "data", opening{formats: Formats{Version: Version + 1}})
	if !errors.Is(err, imap.ContactAdmin) || !strings.Contains(err.Error(), "start the server") {
		t.Errorf("an older folder: %v", err)
	}
	if d, err = Open(fs, "data"); err != nil { // it was not changed
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

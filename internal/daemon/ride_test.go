package daemon

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/internal/crashfs"
)

// TestRidesArePartOfTheIndex: what was acknowledged because it rode with the messages is
// there after a power cut for a server, a check, and a repair that has no index.
func TestRidesArePartOfTheIndex(t *testing.T) {
	for kept := range 3 {
		disk := crashfs.New()
		l := &life{t: t, rng: rand.New(rand.NewPCG(1, 1)), s: openHome(t, disk), expunged: make(map[string]bool), users: []string{"ann", "bob"}}
		if err := l.s.store.Users().Set(t.Context(), "ann", "a hash"); err != nil {
			t.Fatal(err)
		}
		for n := range 30 {
			l.step()
			if err := l.append(l.account(), "INBOX", 500+100*n); err != nil {
				t.Fatal(err)
			}
		}
		want := lookAt(t, l.s)
		if rides := l.s.blobs.Stats().Rides; rides < 20 {
			t.Errorf("only %d rides", rides)
		}
		crashed := disk.Clones()[kept].FS
		if err := l.s.Close(); err != nil {
			t.Error(err)
		}
		for what, remove := range map[string]string{"nothing": "", "the index": home + "/index", "the journal": home + "/journal"} {
			t.Run(fmt.Sprintf("kept=%d,without %s", kept, what), func(t *testing.T) {
				d := copyDisk(t, crashed)
				if remove == "" {
					clean(t, d)
				} else if err := d.RemoveAll(remove); err != nil {
					t.Fatal(err)
				}
				same(t, want, repair(t, d))
			})
		}
		served := func(t *testing.T, d vfs.FS) {
			s := openHome(t, d)
			if d := cmp.Diff(want.Boxes, lookAt(t, s).Boxes); d != "" {
				t.Errorf("mailboxes differ:\n%s", d)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		t.Run(fmt.Sprintf("kept=%d,served", kept), func(t *testing.T) { served(t, crashed) })
	}
}

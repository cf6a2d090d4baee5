package mailstore_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// refuse has an APPEND refused of which the first messages were written whole.
func refuse(t *testing.T, a *mailstore.Account, texts ...string) {
	t.Helper()
	var items []mailstore.AppendItem
	for _, text := range texts {
		items = append(items, mailstore.AppendItem{Upload: upload(t, a, text)})
	}
	bad, err := a.Upload(ctx, 3)
	must(t, err)
	if _, err := bad.Write([]byte("too much")); err == nil {
		t.Fatal("more was taken than was announced")
	}
	if _, err := a.Append(ctx, imap.Inbox, append(items, mailstore.AppendItem{Upload: bad})); err == nil {
		t.Error("the APPEND was not refused")
	}
}

// Messages of an APPEND that was refused do not come back, whatever a crash leaves
// and a repair has to do without.
func TestRefusedAppendIsNotRecovered(t *testing.T) {
	fs := crashfs.New()
	d := openDisk(t, fs, mailstore.Options{}, bloblog.Options{SegmentBytes: 2000}, false)
	a := d.account(t)
	long := mail("refused") + strings.Repeat("many bytes\r\n", 40_000)
	appendMail(t, a, imap.Inbox, mail("kept"))
	refuse(t, a, mail("refused"), long)
	appendMail(t, a, imap.Inbox, mail("kept")) // its sync is one for those before, too
	refuse(t, a, long, mail("refused"))
	for _, c := range fs.Clones() {
		blobs, err := bloblog.Open("blobs", bloblog.Options{FS: c.FS, Manual: true})
		must(t, err)
		kv := memkv.NewKV()
		var notes []string
		res, err := mailstore.Repair(ctx, kv, blobs, mailstore.RepairOptions{
			Accounts: []driver.Account{1}, Store: quiet(mailstore.Options{}),
			Note: func(n mailstore.RepairNote) { notes = append(notes, fmt.Sprintf("%s: %s", n.Kind, n.Text)) },
		})
		must(t, err)
		if res.Recovered != 2 {
			t.Errorf("%d messages were recovered, want 2: %q", res.Recovered, notes)
		}
		store, err := mailstore.Open(ctx, kv, blobs, quiet(mailstore.Options{}))
		must(t, err)
		list, err := store.Accounts(ctx)
		must(t, err)
		for _, info := range list {
			a, err := store.Account(ctx, info.Name)
			must(t, err)
			if got := dump(t, a); strings.Contains(got, "Subject: refused") || strings.Count(got, "Subject: kept") != 2 {
				t.Errorf("after a repair there is\n%.2000s", got)
			}
		}
		check(t, store)
		must(t, store.Close(ctx))
		must(t, blobs.Close())
	}
	d.close(t)
}

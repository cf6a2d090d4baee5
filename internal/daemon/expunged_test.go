package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// mourners is a store in which sessions still hold what was expunged, so that
// rows and messages of it are on disk.
type mourners struct {
	t     *testing.T
	s     *storage
	a     *mailstore.Account
	held  []*mailstore.Mailbox
	alive map[string]bool // bodies that are in a mailbox
	// early were expunged before the saved state, late behind it.
	early, late map[string]bool
}

// put appends messages with the bodies name-1, name-2 and so on.
func (m *mourners) put(box, name string, count int) {
	m.t.Helper()
	ctx := context.Background()
	for i := range count {
		body := fmt.Sprintf("%s-%d", name, i+1)
		text := "Subject: " + body + "\r\n\r\n" + strings.Repeat("much text\r\n", 50) + body + "\r\n"
		u, err := m.a.Upload(ctx, int64(len(text)))
		if err == nil {
			_, err = io.WriteString(u, text)
		}
		if err == nil {
			_, err = m.a.Append(ctx, box, []mailstore.AppendItem{{Upload: u, Date: imap.MakeTime(1e9, 0)}})
		}
		if err != nil {
			m.t.Fatal(err)
		}
		m.alive[body] = true
	}
}

// hold opens a mailbox as a session does that never asks for news.
func (m *mourners) hold(box string) *mailstore.Mailbox {
	m.t.Helper()
	b, err := m.a.Mailbox(context.Background(), box)
	if err != nil {
		m.t.Fatal(err)
	}
	m.held = append(m.held, b)
	return b
}

// expunge takes out the messages of a mailbox with one of the bodies name-1 to
// name-count.
func (m *mourners) expunge(box, name string, count int, gone map[string]bool) {
	m.t.Helper()
	ctx := context.Background()
	b, err := m.a.Mailbox(ctx, box)
	if err != nil {
		m.t.Fatal(err)
	}
	defer b.Close()
	var set imap.UIDSet
	for uid, row := range lookInto(m.t, m.a, mailstore.MailboxInfo{Name: box}).Rows {
		body := strings.TrimSpace(bodyOf(strings.TrimSpace(row)))
		for i := range count {
			if body == fmt.Sprintf("%s-%d", name, i+1) {
				set.Add(imap.UID(uid))
				gone[body] = true
				delete(m.alive, body)
			}
		}
	}
	if set.Len() != uint64(count) {
		m.t.Fatalf("%s has %d messages %s, want %d", box, set.Len(), name, count)
	}
	_, err = b.Store(ctx, &mailstore.StoreRequest{UIDs: set, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
	if err == nil {
		err = b.Expunge(ctx, &set)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// grieve does the same things before a saved state and behind it.
func (m *mourners) grieve(when string, gone map[string]bool) {
	m.t.Helper()
	ctx := context.Background()
	m.put("INBOX", when+"-plain", 8)
	m.put("INBOX", when+"-copied", 4)
	m.put("INBOX", when+"-moved", 6)
	doomed := when + "-doomed"
	for _, box := range []string{doomed, when + "-target"} {
		if _, err := m.a.Create(ctx, box, nil); err != nil {
			m.t.Fatal(err)
		}
	}
	m.put(doomed, doomed, 3)
	inbox, target := m.hold("INBOX"), m.hold(when+"-target")
	if _, err := inbox.Copy(ctx, uidsOf(m.t, m.a, "INBOX", when+"-copied"), when+"-target"); err != nil {
		m.t.Fatal(err)
	}
	if _, err := inbox.Move(ctx, uidsOf(m.t, m.a, "INBOX", when+"-moved"), when+"-target"); err != nil {
		m.t.Fatal(err)
	}
	_ = target
	m.hold(doomed)
	m.expunge("INBOX", when+"-plain", 5, gone)
	m.expunge(when+"-target", when+"-moved", 3, gone)
	kept := make(map[string]bool)
	m.expunge("INBOX", when+"-copied", 2, kept)
	maps.Copy(m.alive, kept) // the copies are there
	if err := m.a.Delete(ctx, doomed); err != nil {
		m.t.Fatal(err)
	}
	for i := range 3 {
		body := fmt.Sprintf("%s-%d", doomed, i+1)
		gone[body] = true
		delete(m.alive, body)
	}
}

func uidsOf(t *testing.T, a *mailstore.Account, box, name string) (set imap.UIDSet) {
	t.Helper()
	for uid, row := range lookInto(t, a, mailstore.MailboxInfo{Name: box}).Rows {
		if strings.Contains(bodyOf(strings.TrimSpace(row)), name) {
			set.Add(imap.UID(uid))
		}
	}
	return set
}

// mourn makes a folder, and the disk as a crash leaves it.
func mourn(t *testing.T) (*mourners, *vfs.MemFS) {
	t.Helper()
	ctx := context.Background()
	disk := crashfs.New()
	m := &mourners{t: t, s: openHome(t, disk), alive: make(map[string]bool), early: make(map[string]bool), late: make(map[string]bool)}
	var err error
	if err = m.s.store.Users().Set(ctx, "ann", "a hash"); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"bob", "ann"} {
		if m.a, err = m.s.store.Account(ctx, user); err != nil {
			t.Fatal(err)
		}
		m.grieve("early", m.early)
	}
	if err := m.s.kv.SaveState(ctx); err != nil {
		t.Fatal(err)
	}
	m.grieve("late", m.late)
	m.put("INBOX", "last", 3)
	crashed := copyDisk(t, disk.Clones()[0].FS)
	for _, b := range m.held {
		b.Close()
	}
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	return m, crashed
}

// absent wants none of the bodies anywhere, and every message that is alive
// somewhere.
func (m *mourners) absent(t *testing.T, got *repaired, groups ...map[string]bool) {
	t.Helper()
	there := make(map[string]bool)
	for name, b := range got.now.Boxes {
		for uid, row := range b.Rows {
			body := bodyOf(strings.TrimSpace(row))
			if strings.HasPrefix(name, "ann:") {
				there[body] = true
			}
			for _, gone := range groups {
				if gone[body] {
					t.Errorf("%s UID %d: expunged mail is back: %s", name, uid, body)
				}
			}
		}
	}
	for body := range m.alive {
		if !there[body] {
			t.Errorf("%s is nowhere", body)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(got.notes, "\n"))
	}
}

// TestExpungedStaysAway: what was expunged, and is on disk still since sessions
// hold it or because nobody has taken it away yet, comes back nowhere after a
// crash and a repair, Recovered included, while there is anything to prove that it
// was expunged.
func TestExpungedStaysAway(t *testing.T) {
	m, crashed := mourn(t)
	rng := rand.New(rand.NewPCG(11, 11))
	try := func(name string, damage func(t *testing.T, d vfs.FS), groups ...map[string]bool) {
		t.Run(name, func(t *testing.T) {
			d := copyDisk(t, crashed)
			damage(t, d)
			m.absent(t, repair(t, d), groups...)
		})
	}
	remove := func(path string) func(*testing.T, vfs.FS) {
		return func(t *testing.T, d vfs.FS) {
			if err := d.RemoveAll(home + path); err != nil {
				t.Fatal(err)
			}
		}
	}
	try("index lost", remove("/index"), m.early, m.late)
	try("journal lost", func(t *testing.T, d vfs.FS) {
		remove("/journal")(t, d)
		spoilOther(t, d)
	}, m.early, m.late)
	journal := files(t, crashed, home+"/journal")
	for _, path := range journal {
		for _, how := range slices.Sorted(maps.Keys(damages)) {
			try(path+" "+how+", index readable", func(t *testing.T, d vfs.FS) {
				damages[how](t, d, path, rng)
				spoilOther(t, d)
			}, m.early, m.late)
			groups := []map[string]bool{m.early}
			if !strings.HasSuffix(path, ".log") {
				groups = append(groups, m.late)
			}
			try(path+" "+how+", index lost", func(t *testing.T, d vfs.FS) {
				damages[how](t, d, path, rng)
				remove("/index")(t, d)
			}, groups...)
		}
	}
}

// spoilOther damages counters of a mailbox, so that the records of the account
// are written anew.
func spoilOther(t *testing.T, disk vfs.FS) {
	t.Helper()
	blobs, err := bloblog.Open(home+"/messages", bloblog.Options{FS: disk, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	// What has ridden with the messages counts.
	err = pebblekv.LayIn(context.Background(), disk, home+"/index", home+"/journal", blobs)
	if err := errors.Join(err, blobs.Close()); err != nil {
		t.Fatal(err)
	}
	kv, err := pebblekv.Open(home+"/index", pebblekv.Options{FS: disk, Derived: mailstore.DerivedRange})
	if err != nil {
		t.Fatal(err)
	}
	err = kv.Update(context.Background(), driver.Account(2), func(tx driver.Txn) error {
		var last []byte
		err := tx.Scan([]byte{'c'}, []byte{'d'}, func(key, _ []byte) bool {
			last = slices.Clone(key)
			return true
		})
		return errors.Join(err, tx.Set(last, []byte{1, 2, 3}))
	})
	if err := errors.Join(err, kv.Close()); err != nil {
		t.Fatal(err)
	}
}

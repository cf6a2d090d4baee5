package mailstore

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// repairWorld is an account with messages in INBOX, and what a repair of it tells.
type repairWorld struct {
	t     *testing.T
	kv    driver.KV
	blobs driver.Blobs
	store *Store
	a     *Account
	notes []string
}

// newRepairWorld appends the messages 1 to n.
func newRepairWorld(t *testing.T, n int) *repairWorld {
	t.Helper()
	w := &repairWorld{t: t, kv: memkv.NewKV(), blobs: memkv.NewBlobs()}
	var err error
	if w.store, err = Open(t.Context(), w.kv, w.blobs, w.options()); err == nil {
		w.a, err = w.store.Account(t.Context(), "ann")
	}
	w.must(err)
	t.Cleanup(func() { _ = w.store.Close(t.Context()) })
	for i := range n {
		w.append(i + 1)
	}
	return w
}

func (w *repairWorld) options() Options {
	return Options{Logger: slog.New(slog.DiscardHandler), AsItIs: true}
}

func (w *repairWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *repairWorld) append(i int) {
	w.t.Helper()
	u, err := w.a.Upload(w.t.Context(), -1)
	w.must(err)
	_, _ = fmt.Fprintf(u, "Subject: message %d\r\n\r\ntext\r\n", i) // Append reports its error
	_, err = w.a.Append(w.t.Context(), imap.Inbox, []AppendItem{{Upload: u}})
	w.must(err)
}

// expunge takes out one message that a session still has.
func (w *repairWorld) expunge(uid imap.UID) {
	w.t.Helper()
	m, err := w.a.Mailbox(w.t.Context(), imap.Inbox)
	w.must(err)
	w.t.Cleanup(func() { _ = m.Close() })
	set := imap.UIDSetOf(uid)
	_, err = m.Store(w.t.Context(), &StoreRequest{UIDs: set, Op: FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
	w.must(err)
	w.must(m.Expunge(w.t.Context(), &set))
}

// copied returns a copy of the index, of which edit may change or (by nil) leave
// out records.
func (w *repairWorld) copied(edit func(a driver.Account, key, value []byte) []byte) driver.KV {
	w.t.Helper()
	kv := memkv.NewKV()
	for a := range driver.Account(2) {
		var keys, values [][]byte
		w.must(w.kv.View(w.t.Context(), a, func(r driver.Reader) error {
			keys, values = nil, nil
			return r.Scan(nil, nil, func(key, value []byte) bool {
				value = append([]byte{}, value...)
				if edit != nil {
					value = edit(a, key, value)
				}
				if value != nil {
					keys, values = append(keys, bytes.Clone(key)), append(values, value)
				}
				return true
			})
		}))
		w.must(kv.Update(w.t.Context(), a, func(tx driver.Txn) error {
			for i := range keys {
				if err := tx.Set(keys[i], values[i]); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return kv
}

// repair repairs kv, which has what a journal said.
func (w *repairWorld) repair(kv driver.KV, opts RepairOptions) *RepairResult {
	w.t.Helper()
	w.notes = nil
	opts.Accounts, opts.Store = []driver.Account{1}, w.options()
	opts.Note = func(n RepairNote) { w.notes = append(w.notes, string(n.Kind)+" "+n.String()) }
	res, err := Repair(w.t.Context(), kv, w.blobs, opts)
	if err != nil {
		w.t.Fatal(err, w.notes)
	}
	return res
}

// mail returns the subjects in a mailbox of a repaired index, with the UIDs.
func (w *repairWorld) mail(kv driver.KV, mailbox string) (list []string, validity imap.UIDValidity) {
	w.t.Helper()
	store, err := Open(w.t.Context(), kv, w.blobs, w.options())
	w.must(err)
	defer func() { w.must(store.Close(w.t.Context())) }()
	a, err := store.Account(w.t.Context(), "ann")
	w.must(err)
	m, err := a.Mailbox(w.t.Context(), mailbox)
	if imap.KindOf(err) == imap.NotFound {
		return nil, 0
	}
	w.must(err)
	defer m.Close()
	snap, err := m.Snapshot(w.t.Context())
	w.must(err)
	var rows []mailindex.Row
	for _, row := range snap.Rows() {
		rows = append(rows, row)
	}
	w.must(m.Fetch(w.t.Context(), rows, NeedBody, func(i int, msg *Message) error {
		if msg.Err != nil {
			return msg.Err
		}
		text, err := io.ReadAll(io.NewSectionReader(msg.Body, 0, msg.Size))
		subject, _, _ := strings.Cut(strings.TrimPrefix(string(text), "Subject: "), "\r\n")
		list = append(list, fmt.Sprintf("%d %s", rows[i].UID, subject))
		return err
	}))
	slices.Sort(list)
	return list, snap.UIDValidity()
}

func (w *repairWorld) want(kv driver.KV, mailbox string, want ...string) {
	w.t.Helper()
	if got, _ := w.mail(kv, mailbox); !slices.Equal(got, want) {
		w.t.Errorf("%s has %q, want %q; told was %q", mailbox, got, want, w.notes)
	}
}

// messageOfKey is the number of the message that a key is about, 0 for other kinds.
func messageOfKey(key []byte) uint64 {
	if key[0] != keyMessage {
		return 0
	}
	return numOfKey(key)
}

// TestRepairAdoptsWhatIsNotNamed: where records of messages are wrong or missing, what
// nobody names comes to Recovered, whichever record it is.
func TestRepairAdoptsWhatIsNotNamed(t *testing.T) {
	t.Run("two records name one message", func(t *testing.T) {
		for _, victim := range []uint64{2, 3} {
			w := newRepairWorld(t, 4)
			var shared messageRec
			kv := w.copied(func(_ driver.Account, key, value []byte) []byte {
				rec, _ := decodeMessage(value)
				switch messageOfKey(key) {
				case 1:
					shared = rec
				case victim:
					rec.ref = shared.ref
					return rec.encode()
				}
				return value
			})
			w.repair(kv, RepairOptions{JournalFound: true, JournalWhole: true})
			if got, _ := w.mail(kv, RecoveredMailbox); !slices.Equal(got, []string{fmt.Sprintf("1 message %d", victim)}) {
				t.Errorf("the record of message %d is that of another, and Recovered has %q; told was %q", victim, got, w.notes)
			}
		}
	})
	t.Run("a record is missing", func(t *testing.T) {
		w := newRepairWorld(t, 3)
		kv := w.copied(func(_ driver.Account, key, value []byte) []byte {
			if messageOfKey(key) == 1 {
				return nil
			}
			return value
		})
		w.repair(kv, RepairOptions{JournalFound: true, JournalWhole: true})
		w.want(kv, imap.Inbox, "2 message 2", "3 message 3")
		w.want(kv, RecoveredMailbox, "1 message 1")
	})
}

// TestRepairBelieves: which of journal and index is believed, where the journal has a
// gap.
func TestRepairBelieves(t *testing.T) {
	all := []string{"1 message 1", "2 message 2", "3 message 3"}
	unreadable := func(_ driver.Account, key, value []byte) []byte {
		if len(key) == 1 && key[0] == keyAccount {
			return []byte{0xff}
		}
		return value
	}
	for name, tc := range map[string]struct {
		journal, old func(w *repairWorld, early, late driver.KV) driver.KV
		inbox        []string
		renewed      bool
	}{
		"the index is younger": {
			journal: func(_ *repairWorld, early, _ driver.KV) driver.KV { return early },
			old:     func(_ *repairWorld, _, late driver.KV) driver.KV { return late },
			inbox:   all,
		},
		"they end together": {
			journal: func(_ *repairWorld, _, late driver.KV) driver.KV { return late },
			old:     func(w *repairWorld, _, _ driver.KV) driver.KV { return w.kv },
			inbox:   all,
		},
		"the index was set back": {
			journal: func(_ *repairWorld, _, late driver.KV) driver.KV { return late },
			old:     func(_ *repairWorld, early, _ driver.KV) driver.KV { return early },
			inbox:   all, renewed: true,
		},
		"nobody knows how old the index is": {
			journal: func(_ *repairWorld, early, _ driver.KV) driver.KV { return early },
			old:     func(w *repairWorld, _, _ driver.KV) driver.KV { return w.copied(unreadable) },
			inbox:   all,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRepairWorld(t, 1)
			early := w.copied(nil)
			w.append(2)
			w.append(3)
			late := w.copied(nil)
			kv := tc.journal(w, early, late)
			_, before := w.mail(late, imap.Inbox)
			w.repair(kv, RepairOptions{JournalFound: true, Old: tc.old(w, early, late)})
			w.want(kv, imap.Inbox, tc.inbox...)
			w.want(kv, RecoveredMailbox)
			if _, now := w.mail(kv, imap.Inbox); (now != before) != tc.renewed {
				t.Errorf("UIDVALIDITY was %d and is %d; told was %q", before, now, w.notes)
			}
		})
	}
}

// TestRepairLeavesExpungedUnread: what was expunged is taken away before the messages
// are read. It may be gone already, and its records may say what they like.
func TestRepairLeavesExpungedUnread(t *testing.T) {
	w := newRepairWorld(t, 3)
	w.expunge(2)
	kv := w.copied(func(_ driver.Account, key, value []byte) []byte {
		if messageOfKey(key) == 2 {
			rec, _ := decodeMessage(value)
			rec.rawSize++
			return rec.encode()
		}
		return value
	})
	res := w.repair(kv, RepairOptions{JournalFound: true, JournalWhole: true})
	w.want(kv, imap.Inbox, "1 message 1", "3 message 3")
	w.want(kv, RecoveredMailbox)
	if res.Messages != 2 || len(w.notes) != 0 {
		t.Errorf("%d messages were read, and told was %q", res.Messages, w.notes)
	}
}

// TestRepairKeepsTheBound: a repaired index has a bound of references above that of the
// old one, and above all that a record names, also of a message that is lost.
func TestRepairKeepsTheBound(t *testing.T) {
	w := newRepairWorld(t, 3)
	var top, bound driver.Ref
	boundless := func(a driver.Account, key, value []byte) []byte {
		if messageOfKey(key) != 0 && a != directoryAccount {
			rec, _ := decodeMessage(value)
			top = max(top, rec.ref)
		}
		if a == directoryAccount && key[0] == keyRefBound {
			d := decoder{data: value}
			bound = driver.Ref(d.uint())
			return nil
		}
		return value
	}
	of := func(kv driver.KV) (b driver.Ref) {
		w.must(kv.View(t.Context(), directoryAccount, func(r driver.Reader) (err error) {
			b, err = readRefBound(r)
			return err
		}))
		return b
	}
	kv := w.copied(boundless)
	w.must(w.blobs.Delete(t.Context(), 1, []driver.Ref{top}))
	w.repair(kv, RepairOptions{JournalFound: true, JournalWhole: true})
	w.want(kv, imap.Inbox, "1 message 1", "2 message 2")
	if got := of(kv); got <= top {
		t.Errorf("a lost message was %#x, and the bound is %#x", top, got)
	}
	// The old index knows of more.
	high := 5 * bound
	w.must(w.kv.Update(t.Context(), directoryAccount, func(tx driver.Txn) error {
		return tx.Set([]byte{keyRefBound}, appendUints(nil, uint64(high)))
	}))
	kv = w.copied(boundless)
	w.repair(kv, RepairOptions{JournalFound: true, JournalWhole: true, Old: w.kv})
	if got := of(kv); got != high {
		t.Errorf("the bound of the old index was %#x, and is %#x", high, got)
	}
	// Without the old index, what was there stays.
	kv = w.copied(nil)
	w.repair(kv, RepairOptions{JournalFound: true, JournalWhole: true})
	if got := of(kv); got != high {
		t.Errorf("the bound of the journal was %#x, and is %#x", high, got)
	}
}

// TestRepairTellsExpungedFromLost: where changes are missing, a message that the engine
// knows to have been deleted was expunged by one of them. Where none are missing it was
// not, and is lost.
func TestRepairTellsExpungedFromLost(t *testing.T) {
	for name, tc := range map[string]struct {
		opts RepairOptions
		told string
	}{
		"a gap":                   {RepairOptions{JournalFound: true, Deleted: func(driver.Ref) bool { return true }}, "mended"},
		"a gap, and nobody knows": {RepairOptions{JournalFound: true}, "lost"},
		"a gap, and it was there": {RepairOptions{JournalFound: true, Deleted: func(driver.Ref) bool { return false }}, "lost"},
		"the journal has no gap":  {RepairOptions{JournalFound: true, JournalWhole: true, Deleted: func(driver.Ref) bool { return true }}, "lost"},
	} {
		w := newRepairWorld(t, 3)
		var victim driver.Ref
		kv := w.copied(func(_ driver.Account, key, value []byte) []byte {
			if messageOfKey(key) == 2 {
				rec, _ := decodeMessage(value)
				victim = rec.ref
			}
			return value
		})
		w.must(w.blobs.Delete(t.Context(), 1, []driver.Ref{victim}))
		w.repair(kv, tc.opts)
		w.want(kv, imap.Inbox, "1 message 1", "3 message 3")
		told := ""
		for _, note := range w.notes {
			if strings.Contains(note, "UID 2") {
				told, _, _ = strings.Cut(note, " ")
			}
		}
		if told != tc.told {
			t.Errorf("%s: the message is told of as %q, want %q: %q", name, told, tc.told, w.notes)
		}
	}
}

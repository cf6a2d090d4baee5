package imapmodel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/memory"
)

// world is a model that changes behind the adapter's back and through it, and
// everything that IMAP promises about one of its mailboxes so far.
type world struct {
	rt    *rapid.T
	m     *counting
	state *imapmodel.MemoryState
	b     *imapmodel.Backend
	acct  imapserver.Account
	mb    imapserver.Mailbox // who changes things
	other imapserver.Mailbox // who looks on

	view    *mailindex.Snapshot // what other has been told
	last    *mailindex.Snapshot
	texts   map[imap.UID]string // of every UID that there has been
	gone    map[imap.UID]imap.ModSeq
	visible map[imap.UID]bool // expunged through the adapter, so readable by other
	serial  int
}

func TestRandomChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		features := rapid.SampledFrom([]imapmodel.Features{
			allFeatures, allFeatures &^ imapmodel.FeatureWatch,
			allFeatures &^ (imapmodel.FeatureCopy | imapmodel.FeatureMove),
			allFeatures &^ (imapmodel.FeatureCopy | imapmodel.FeatureMove | imapmodel.FeatureAtomic | imapmodel.FeatureWatch),
		}).Draw(rt, "features")
		w := &world{
			rt: rt, m: &counting{Model: memory.New(imapmodel.Mailbox{Name: "INBOX"}, imapmodel.Mailbox{Name: "Other"}), features: features},
			state: &imapmodel.MemoryState{},
			texts: map[imap.UID]string{}, gone: map[imap.UID]imap.ModSeq{}, visible: map[imap.UID]bool{},
		}
		w.start()
		rt.Repeat(map[string]func(*rapid.T){
			"":         func(*rapid.T) { w.check() },
			"add":      func(*rapid.T) { w.m.Add("ann", "INBOX", w.text(), w.flags()...) },
			"remove":   func(*rapid.T) { w.must(w.m.Remove(rt.Context(), "ann", "INBOX", w.keys())) },
			"setFlags": func(*rapid.T) { w.must(w.m.SetFlags(rt.Context(), "ann", "INBOX", w.keys(), w.flags(), w.flags())) },
			"replace": func(*rapid.T) {
				for _, key := range w.keys() {
					w.m.Replace("ann", "INBOX", key, w.text())
				}
			},
			"append":  func(*rapid.T) { w.append() },
			"store":   func(*rapid.T) { w.store() },
			"expunge": func(*rapid.T) { w.expunge() },
			"copy":    func(*rapid.T) { w.copy() },
			"look on": func(*rapid.T) { w.lookOn() },
			"restart": func(*rapid.T) { w.stop(); w.start() },
		})
		w.stop()
	})
}

func (w *world) must(err error) {
	w.rt.Helper()
	if err != nil {
		w.rt.Fatal(err)
	}
}

func (w *world) start() {
	var err error
	w.b, err = imapmodel.New(w.m, imapmodel.Options{State: w.state, Log: quiet()})
	w.must(err)
	w.acct, err = w.b.Open(w.rt.Context(), "ann")
	w.must(err)
	w.mb, err = w.acct.Mailbox(w.rt.Context(), "INBOX")
	w.must(err)
	w.other, err = w.acct.Mailbox(w.rt.Context(), "INBOX")
	w.must(err)
	w.view, err = w.other.Snapshot(w.rt.Context())
	w.must(err)
	w.visible = map[imap.UID]bool{}
}

func (w *world) stop() {
	w.must(errors.Join(w.mb.Close(), w.other.Close(), w.acct.Close(), w.b.Close()))
}

func (w *world) text() string {
	w.serial++
	return text(fmt.Sprintf("number%d", w.serial))
}

func (w *world) flags() []imap.Flag {
	return rapid.SliceOfN(rapid.SampledFrom([]imap.Flag{imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged, "kw", "KW", "$Forwarded"}), 0, 3).Draw(w.rt, "flags")
}

// keys draws some of the model's messages, and one that does not exist.
func (w *world) keys() []string {
	list, err := w.m.Model.Messages(w.rt.Context(), "ann", "INBOX")
	w.must(err)
	keys := []string{"none"}
	for _, m := range list {
		if rapid.Bool().Draw(w.rt, "this") {
			keys = append(keys, m.Key)
		}
	}
	return keys
}

// uids draws some UIDs, also of messages that are gone.
func (w *world) uids() imap.UIDSet {
	var set imap.UIDSet
	for _, uid := range slices.Sorted(maps.Keys(w.texts)) {
		if rapid.Bool().Draw(w.rt, "this") {
			set.Add(uid)
		}
	}
	return set
}

func (w *world) append() {
	body := w.text()
	up, err := w.acct.Upload(w.rt.Context(), int64(len(body)))
	w.must(err)
	_, err = io.WriteString(up, body)
	w.must(err)
	res, err := w.acct.Append(w.rt.Context(), "INBOX", []imapserver.AppendMessage{{Upload: up, Flags: w.flags()}})
	w.must(err)
	snap := w.check()
	if i, ok := snap.Find(res.UIDs[0]); !ok || w.body(w.mb, snap.Row(i)) != body {
		w.rt.Fatalf("UID %d of an APPEND is not what was appended", res.UIDs[0])
	}
}

func (w *world) store() {
	before := w.check()
	req := &imapserver.StoreRequest{UIDs: w.uids(), Op: rapid.SampledFrom([]imapserver.FlagOp{0, 1, 2}).Draw(w.rt, "op"), Flags: w.flags()}
	res, err := w.mb.Store(w.rt.Context(), req)
	w.must(err)
	after := w.check()
	for i := range before.Len() {
		row := before.Row(i)
		j, _ := after.Find(row.UID)
		if !req.UIDs.Contains(row.UID) || after.ModSeq(j) == row.ModSeq {
			continue
		}
		if after.ModSeq(j) != res.ModSeq {
			w.rt.Fatalf("UID %d has MODSEQ %d, the STORE said %d", row.UID, after.ModSeq(j), res.ModSeq)
		}
	}
	for uid := range req.UIDs.All() {
		if _, ok := before.Find(uid); ok == res.Missing.Contains(uid) {
			w.rt.Fatalf("missing %s, UID %d there: %v", &res.Missing, uid, ok)
		}
	}
}

func (w *world) expunge() {
	before := w.check()
	var uids *imap.UIDSet
	if rapid.Bool().Draw(w.rt, "some") {
		set := w.uids()
		uids = &set
	}
	w.must(w.mb.Expunge(w.rt.Context(), uids))
	after := w.check()
	for _, row := range before.Rows() {
		_, there := after.Find(row.UID)
		deleted := before.Flags(row.Flags).Has(imap.FlagDeleted) && (uids == nil || uids.Contains(row.UID))
		if there == deleted {
			w.rt.Fatalf("UID %d there: %v, to be expunged: %v", row.UID, there, deleted)
		}
		if !there {
			w.visible[row.UID] = true
		}
	}
}

func (w *world) copy() {
	before := w.check()
	dest := rapid.SampledFrom([]string{"INBOX", "Other"}).Draw(w.rt, "to")
	move := rapid.Bool().Draw(w.rt, "move")
	res, err := w.mb.Copy(w.rt.Context(), w.uids(), dest, move)
	w.must(err)
	if move {
		for _, uid := range res.Source {
			w.visible[uid] = true
		}
	}
	after := w.check()
	if dest != "INBOX" {
		if move && before.Len()-after.Len() != len(res.Source) {
			w.rt.Fatalf("%d messages moved, %d of them gone", len(res.Source), before.Len()-after.Len())
		}
		return
	}
	for i := range res.Source {
		if w.texts[res.Source[i]] != w.texts[res.Dest[i]] {
			w.rt.Fatalf("UID %d is no copy of UID %d", res.Dest[i], res.Source[i])
		}
	}
}

// lookOn reads everything that other sees, and then tells it what is new.
func (w *world) lookOn() {
	for _, row := range w.view.Rows() {
		_, gone := w.gone[row.UID]
		if got, err := w.tryBody(w.other, row); err == nil {
			if got != w.texts[row.UID] {
				w.rt.Fatalf("UID %d has become %q, was %q", row.UID, got, w.texts[row.UID])
			}
		} else if !gone || w.visible[row.UID] || !errors.Is(err, imap.ExpungeIssued) {
			w.rt.Fatalf("UID %d (gone: %v, through the adapter: %v) cannot be read: %v", row.UID, gone, w.visible[row.UID], err)
		}
	}
	w.view = w.check()
	w.other.Release(w.view.HighestModSeq())
	w.mb.Release(w.view.HighestModSeq())
}

func (w *world) tryBody(mb imapserver.Mailbox, row mailindex.Row) (got string, failed error) {
	err := mb.Fetch(w.rt.Context(), []mailindex.Row{row}, imapserver.NeedBody, func(_ int, m *imapserver.Message) error {
		if failed = m.Err; failed != nil {
			return nil
		}
		data, err := io.ReadAll(io.NewSectionReader(m.Body, 0, 1<<30))
		got = string(data)
		return err
	})
	w.must(err)
	return got, failed
}

func (w *world) body(mb imapserver.Mailbox, row mailindex.Row) string {
	got, err := w.tryBody(mb, row)
	w.must(err)
	return got
}

// check looks at the mailbox, and at whether all promises are kept.
func (w *world) check() *mailindex.Snapshot {
	rt := w.rt
	rt.Helper()
	snap, err := w.mb.Snapshot(rt.Context())
	w.must(err)
	w.checkUIDs(snap)
	w.checkChange(snap)
	w.checkModel(snap)
	w.checkHistory(snap)
	w.last = snap
	return snap
}

func (w *world) checkUIDs(snap *mailindex.Snapshot) {
	last := imap.UID(0)
	for _, row := range snap.Rows() {
		if row.UID <= last || row.UID >= snap.UIDNext() {
			w.rt.Fatalf("UID %d after %d, UIDNEXT %d", row.UID, last, snap.UIDNext())
		}
		last = row.UID
		if _, known := w.texts[row.UID]; !known {
			if w.last != nil && row.UID < w.last.UIDNext() {
				w.rt.Fatalf("new UID %d below UIDNEXT %d", row.UID, w.last.UIDNext())
			}
			w.texts[row.UID] = w.body(w.mb, row)
		}
		if _, gone := w.gone[row.UID]; gone {
			w.rt.Fatalf("UID %d has come back", row.UID)
		}
	}
}

func (w *world) checkChange(snap *mailindex.Snapshot) {
	if w.last == nil {
		return
	}
	if snap.UIDValidity() != w.last.UIDValidity() || snap.UIDNext() < w.last.UIDNext() {
		w.rt.Fatalf("UIDVALIDITY %d, UIDNEXT %d; before %d, %d", snap.UIDValidity(), snap.UIDNext(), w.last.UIDValidity(), w.last.UIDNext())
	}
	high := w.last.HighestModSeq()
	changed := false
	for _, row := range snap.Rows() {
		i, old := w.last.Find(row.UID)
		same := old && slices.Equal(snap.Flags(row.Flags).List(), w.last.Flags(w.last.FlagsID(i)).List())
		if same && row.ModSeq != w.last.ModSeq(i) || !same && row.ModSeq <= high || row.ModSeq > snap.HighestModSeq() {
			w.rt.Fatalf("UID %d (same as before: %v) has MODSEQ %d, the highest was %d", row.UID, same, row.ModSeq, high)
		}
		changed = changed || !same
	}
	for _, row := range w.last.Rows() {
		if _, ok := snap.Find(row.UID); !ok {
			w.gone[row.UID] = snap.HighestModSeq()
			changed = true
		}
	}
	if changed != (snap.HighestModSeq() > high) {
		w.rt.Fatalf("changed: %v, HIGHESTMODSEQ %d after %d", changed, snap.HighestModSeq(), high)
	}
}

// checkModel compares the snapshot with what the model has.
func (w *world) checkModel(snap *mailindex.Snapshot) {
	show := func(text string, flags []imap.Flag) string {
		var words []string
		for _, f := range flags {
			if w := f.Fold(); !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
		slices.Sort(words)
		return strings.SplitN(text, "\r\n", 2)[0] + " " + strings.Join(words, " ")
	}
	var want, got []string
	list, err := w.m.Model.Messages(w.rt.Context(), "ann", "INBOX")
	w.must(err)
	for _, m := range list {
		r, err := w.m.Open(w.rt.Context(), "ann", "INBOX", m.Key)
		w.must(err)
		data, err := io.ReadAll(r)
		w.must(err)
		want = append(want, show(string(data), m.Flags))
	}
	for _, row := range snap.Rows() {
		got = append(got, show(w.texts[row.UID], snap.Flags(row.Flags).List()))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		w.rt.Fatalf("model and snapshot differ:\n%s", diff)
	}
}

func (w *world) checkHistory(snap *mailindex.Snapshot) {
	since := imap.ModSeq(rapid.Uint64Range(0, uint64(snap.HighestModSeq())).Draw(w.rt, "since"))
	got, complete, err := w.mb.Expunged(w.rt.Context(), since)
	w.must(err)
	if !complete && since > 0 {
		w.rt.Fatalf("history since %d is not complete", since)
	}
	var want imap.UIDSet
	for uid, modseq := range w.gone {
		if modseq > since {
			want.Add(uid)
		}
	}
	if !got.Equal(want) {
		w.rt.Fatalf("expunged since %d: %s, want %s", since, got, want)
	}
}

// TestManySessions is for the race detector: sessions, pushes and restarts of
// sessions all at once, and then one truth.
func TestManySessions(t *testing.T) {
	m := memory.New(imapmodel.Mailbox{Name: "INBOX"}, imapmodel.Mailbox{Name: "Other"})
	for i := range 50 {
		m.Add("ann", "INBOX", text(fmt.Sprint("m", i)))
	}
	e := newEnv(t, m, imapmodel.Options{State: &imapmodel.MemoryState{}, CacheBytes: 10_000})
	defer e.close()
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for i := range 6 {
		wg.Go(func() {
			for range 15 {
				if err := busy(t.Context(), e, i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 100 {
			key := m.Add("ann", "INBOX", text(fmt.Sprint("x", i)), imap.FlagDeleted)
			e.b.Changed("", "")
			if i%3 == 0 {
				m.Replace("ann", "INBOX", key, text(fmt.Sprint("y", i)))
			}
		}
	})
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	mb := e.open("INBOX")
	defer mb.Close()
	list, _ := m.Messages(t.Context(), "ann", "INBOX")
	if n := e.snap(mb).Len(); n != len(list) {
		t.Errorf("%d messages, the model has %d", n, len(list))
	}
}

// busy is what one session does.
func busy(ctx context.Context, e *env, i int) error {
	mb, err := e.acct.Mailbox(ctx, "INBOX")
	if err != nil {
		return err
	}
	defer mb.Close()
	defer mb.Watch(func() {})()
	snap, err := mb.Snapshot(ctx)
	if err != nil {
		return err
	}
	var rows []mailindex.Row
	for _, row := range snap.Rows() {
		rows = append(rows, row)
	}
	err = mb.Fetch(ctx, rows, imapserver.NeedDigest|imapserver.NeedIDs, func(_ int, m *imapserver.Message) error {
		if m.Err != nil && !errors.Is(m.Err, imap.ExpungeIssued) {
			return m.Err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if snap.Len() == 0 {
		return nil // the others have moved everything away
	}
	first := imap.UIDSetOf(snap.UID(i % snap.Len()))
	if _, err := mb.Store(ctx, &imapserver.StoreRequest{UIDs: first, Op: imapserver.FlagsAdd, Flags: []imap.Flag{imap.Flag(fmt.Sprint("k", i))}}); err != nil {
		return err
	}
	if _, err := mb.Copy(ctx, first, "Other", i%2 == 0); err != nil {
		return err
	}
	if i == 3 {
		if err := mb.Expunge(ctx, nil); err != nil {
			return err
		}
	}
	if _, err := mb.Snapshot(ctx); err != nil {
		return err
	}
	_, err = e.acct.Status(ctx, "Other")
	return err
}

package mailstore_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

var ctx = context.Background()

func kindIs(t *testing.T, err error, kind imap.Kind) {
	t.Helper()
	if imap.KindOf(err) != kind {
		t.Errorf("the error is %v (kind %v), want kind %v", err, imap.KindOf(err), kind)
	}
}

func TestAccounts(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	ann := b.account(t, "ann")
	appendMail(t, ann, imap.Inbox, mail("one"))
	b.account(t, "bob")
	if err := b.store.RenameAccount(ctx, "ann", "bob"); imap.KindOf(err) != imap.Exists {
		t.Errorf("rename onto another account: %v", err)
	}
	if err := b.store.RenameAccount(ctx, "ann", "anna"); err != nil {
		t.Fatal(err)
	}
	if s, err := b.account(t, "anna").Status(imap.Inbox); err != nil || s.Messages != 1 {
		t.Errorf("after the rename: %+v, %v", s, err)
	}
	if err := b.store.RemoveAccount(ctx, "anna"); err != nil {
		t.Fatal(err)
	}
	if n := blobCount(t, b, 1); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
	_, err := b.store.Lookup(ctx, "anna")
	kindIs(t, err, imap.NotFound)
	b.account(t, "anna")
	list, err := b.store.Accounts(ctx)
	if want := []mailstore.AccountInfo{{Name: "anna", Number: 3}, {Name: "bob", Number: 2}}; err != nil || !slices.Equal(list, want) {
		t.Errorf("accounts %v, want %v", list, want)
	}
	_, err = b.store.Account(ctx, "a\nb")
	kindIs(t, err, imap.Cannot)
}

func TestUsers(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	u := b.store.Users()
	for _, name := range []string{"bob", "ann"} {
		if err := u.Set(ctx, name, "$hash$"+name); err != nil {
			t.Fatal(err)
		}
	}
	if hash, err := u.Get(ctx, "ann"); err != nil || hash != "$hash$ann" {
		t.Errorf("hash %q, %v", hash, err)
	}
	if names, err := u.List(ctx); err != nil || !slices.Equal(names, []string{"ann", "bob"}) {
		t.Errorf("users %v, %v", names, err)
	}
	if err := u.Delete(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	kindIs(t, u.Delete(ctx, "ann"), imap.NotFound)
	_, err := u.Get(ctx, "ann")
	kindIs(t, err, imap.NotFound)
}

func TestNewerFormatIsRefused(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	b.store.Close(ctx)
	err := b.kv.Update(ctx, 0, func(tx driver.Txn) error { return tx.Set([]byte{'F'}, []byte{99}) })
	if err != nil {
		t.Fatal(err)
	}
	_, err = mailstore.Open(ctx, b.kv, b.blobs, b.opts)
	if err == nil || !strings.Contains(err.Error(), "format 99") {
		t.Errorf("Open: %v", err)
	}
}

func TestGhostsStayReadable(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"), imap.FlagDeleted)
	appendMail(t, a, imap.Inbox, mail("two"))
	reader, writer := open(t, a, imap.Inbox), open(t, a, imap.Inbox)
	before := snapshot(t, reader)
	if err := writer.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, writer)
	if after.Len() != 1 {
		t.Fatalf("%d messages are left", after.Len())
	}
	writer.Release(after.HighestModSeq())
	if got := bodies(t, reader, allRows(before)); got[0] != mail("one") || got[1] != mail("two") {
		t.Errorf("the reader sees %q", got)
	}
	// A copy of a ghost is a message of its own.
	if _, err := a.Create(ctx, "saved", nil); err != nil {
		t.Fatal(err)
	}
	res, err := reader.Copy(ctx, imap.UIDSetOfRange(1, 2), "saved")
	if err != nil || len(res.Dest) != 2 {
		t.Fatalf("Copy: %+v, %v", res, err)
	}
	check(t, b.store)
	reader.Release(after.HighestModSeq())
	if res, err := reader.Copy(ctx, imap.UIDSetOf(1), "saved"); err != nil || len(res.Dest) != 0 {
		t.Errorf("copying what has been released: %+v, %v", res, err)
	}
	saved := open(t, a, "saved")
	s := snapshot(t, saved)
	if got := bodies(t, saved, allRows(s)); got[0] != mail("one") {
		t.Errorf("the copy is %q", got)
	}
	if _, err := saved.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOf(1), Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		t.Fatal(err)
	}
	if err := saved.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	saved.Close()
	eventually(t, "taking back the blob", func() bool { return blobCount(t, b, 1) == 1 })
	check(t, b.store)
}

// TestReadAloneThenGone: what is remembered of a message that was read by itself
// does not outlive it.
func TestReadAloneThenGone(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"), imap.FlagDeleted)
	m := open(t, a, imap.Inbox)
	defer m.Close()
	row := snapshot(t, m).Row(0)
	read := func() (text string, err error) {
		ferr := m.Fetch(ctx, []mailindex.Row{row}, mailstore.NeedBody, func(_ int, msg *mailstore.Message) error {
			if err = msg.Err; err == nil {
				var p []byte
				p, err = io.ReadAll(io.NewSectionReader(msg.Body, 0, msg.Size))
				text = string(p)
			}
			return nil
		})
		return text, errors.Join(ferr, err)
	}
	for range 2 {
		if text, err := read(); err != nil || text != mail("one") {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if text, err := read(); err != nil || text != mail("one") {
		t.Errorf("the ghost is %q, %v", text, err)
	}
	m.Release(snapshot(t, m).HighestModSeq())
	eventually(t, "taking back the blob", func() bool { return blobCount(t, b, 1) == 0 })
	_, err := read()
	kindIs(t, err, imap.NotFound)
}

func TestDeleteMailboxTakesBackSpace(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	if _, err := a.Create(ctx, "box", nil); err != nil {
		t.Fatal(err)
	}
	appendMail(t, a, "box", mail("one"))
	uid := appendMail(t, a, "box", mail("two"))
	m := open(t, a, "box")
	if _, err := m.Copy(ctx, imap.UIDSetOf(uid), imap.Inbox); err != nil {
		t.Fatal(err)
	}
	rows := allRows(snapshot(t, m))
	if err := a.Delete(ctx, "box"); err != nil {
		t.Fatal(err)
	}
	if got := bodies(t, m, rows[:1]); got[0] != mail("one") {
		t.Errorf("who still has the mailbox open reads %q", got)
	}
	m.Close()
	eventually(t, "taking back the blob", func() bool { return blobCount(t, b, 1) == 1 })
	check(t, b.store)
	inbox := open(t, a, imap.Inbox)
	defer inbox.Close()
	if got := bodies(t, inbox, allRows(snapshot(t, inbox))); got[0] != mail("two") {
		t.Errorf("the copy is %q", got)
	}
}

func TestRecent(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"))
	appendMail(t, a, imap.Inbox, mail("two"))
	m := open(t, a, imap.Inbox)
	claim := func(wantFirst, wantLast imap.UID) {
		t.Helper()
		first, last, err := m.ClaimRecent(ctx)
		if err != nil || first != wantFirst || last != wantLast {
			t.Errorf("ClaimRecent = %d, %d, %v, want %d, %d", first, last, err, wantFirst, wantLast)
		}
	}
	if s, _ := a.Status(imap.Inbox); s.Recent != 2 {
		t.Errorf("%d recent", s.Recent)
	}
	claim(1, 2)
	claim(3, 2)
	appendMail(t, a, imap.Inbox, mail("three"))
	b.restart(t)
	a = b.account(t, "ann")
	m = open(t, a, imap.Inbox)
	claim(3, 3)
	b.restart(t)
	m = open(t, b.account(t, "ann"), imap.Inbox)
	claim(4, 3)
	check(t, b.store)
}

func TestThreads(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	texts := []string{
		"Message-ID: <b@x>\r\nReferences: <a@x>\r\n\r\n", // the reply came first
		"Message-ID: <a@x>\r\n\r\n",
		"Message-ID: <c@x>\r\nIn-Reply-To: <b@x>\r\n\r\n",
		"Message-ID: <other@x>\r\nSubject: Re: nothing\r\n\r\n",
		"\r\nno header at all\r\n",
	}
	for _, text := range texts {
		appendMail(t, a, imap.Inbox, text)
	}
	m := open(t, a, imap.Inbox)
	defer m.Close()
	var threads, emails []imap.ObjectID
	err := m.Fetch(ctx, allRows(snapshot(t, m)), mailstore.NeedIDs, func(_ int, msg *mailstore.Message) error {
		threads, emails = append(threads, msg.ThreadID), append(emails, msg.EmailID)
		return msg.Err
	})
	if err != nil {
		t.Fatal(err)
	}
	if threads[0] != threads[1] || threads[0] != threads[2] || threads[3] == threads[0] || threads[4] == threads[3] || threads[4] == "" {
		t.Errorf("threads %v", threads)
	}
	slices.Sort(emails)
	if len(slices.Compact(emails)) != 5 {
		t.Errorf("email ids %v", emails)
	}
}

func TestImport(t *testing.T) {
	for _, size := range []int{0, 3 << 20} { // the second takes several transactions
		b := newBench(t, mailstore.Options{})
		a := b.account(t, "ann")
		filler := strings.Repeat("All work and no play. ", size/22)
		item := func(key string) mailstore.AppendItem {
			return mailstore.AppendItem{Upload: upload(t, a, mail(key)+filler), ImportKey: key, Flags: []imap.Flag{imap.FlagDeleted}}
		}
		res, err := a.Append(ctx, imap.Inbox, []mailstore.AppendItem{item("k1"), item("k2"), item("k1")})
		if err != nil || !slices.Equal(res.UIDs, []imap.UID{1, 2, 0}) {
			t.Fatalf("Append: %+v, %v", res, err)
		}
		m := open(t, a, imap.Inbox)
		if err := m.Expunge(ctx, nil); err != nil {
			t.Fatal(err)
		}
		m.Close()
		b.restart(t)
		a = b.account(t, "ann")
		res, err = a.Append(ctx, imap.Inbox, []mailstore.AppendItem{item("k1"), item("k3")})
		if err != nil || !slices.Equal(res.UIDs, []imap.UID{0, 3}) {
			t.Fatalf("Append again: %+v, %v", res, err)
		}
		seen, err := a.ImportSeen(ctx, []string{"k0", "k1", "k3"})
		if err != nil || !slices.Equal(seen, []bool{false, true, true}) {
			t.Errorf("ImportSeen: %v, %v", seen, err)
		}
		eventually(t, "taking back the blobs", func() bool { return blobCount(t, b, 1) == 1 })
		check(t, b.store)
	}
}

func TestAppendToNowhere(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	_, err := a.Append(ctx, "nowhere", []mailstore.AppendItem{{Upload: upload(t, a, mail("x"))}})
	kindIs(t, err, imap.NotFound)
	if n := blobCount(t, b, 1); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
	m := open(t, a, imap.Inbox)
	appendMail(t, a, imap.Inbox, mail("y"))
	_, err = m.Copy(ctx, imap.UIDSetOf(1), "nowhere")
	kindIs(t, err, imap.NotFound)
	_, err = m.Move(ctx, imap.UIDSetOf(1), "nowhere")
	kindIs(t, err, imap.NotFound)
}

func TestHistoryIsBounded(t *testing.T) {
	b := newBench(t, mailstore.Options{HistoryRanges: 4})
	a := b.account(t, "ann")
	m := open(t, a, imap.Inbox)
	defer m.Close()
	start := snapshot(t, m).HighestModSeq()
	for range 12 {
		appendMail(t, a, imap.Inbox, mail("x"), imap.FlagDeleted)
		if err := m.Expunge(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, complete, err := m.Expunged(ctx, start); err != nil || complete {
		t.Errorf("the history is said to be complete, %v", err)
	}
	uids, complete, err := m.Expunged(ctx, snapshot(t, m).HighestModSeq()-2)
	if err != nil || !complete || uids.String() != "12" {
		t.Errorf("Expunged lately: %v, %v, %v", uids, complete, err)
	}
	check(t, b.store)
}

func TestUnchangedSince(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"))
	appendMail(t, a, imap.Inbox, mail("two"))
	m := open(t, a, imap.Inbox)
	defer m.Close()
	s := snapshot(t, m)
	res, err := m.Store(ctx, &mailstore.StoreRequest{
		UIDs: imap.UIDSetOf(1, 2, 7), Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagSeen},
		HasUnchangedSince: true, UnchangedSince: s.ModSeq(0),
	})
	if err != nil || res.Modified.String() != "2" || res.Missing.String() != "7" || res.ModSeq <= s.HighestModSeq() {
		t.Errorf("Store: %+v, %v", res, err)
	}
	c := mailindex.Compare(s, snapshot(t, m))
	if !slices.Equal(c.Changed, []int{0}) {
		t.Errorf("changed: %v", c.Changed)
	}
}

// TestStoreOfWhatIs: who stores flags that all messages have already waits for no
// commit, is told the same as others, and changes nothing.
func TestStoreOfWhatIs(t *testing.T) {
	var next error
	b := newBench(t, mailstore.Options{})
	b.kv = &failing{b.kv, func() error { return next }}
	b.restart(t)
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"), imap.FlagSeen, "kw")
	appendMail(t, a, imap.Inbox, mail("two"), imap.FlagSeen)
	m := open(t, a, imap.Inbox)
	defer m.Close()
	before := snapshot(t, m)
	store := func(op mailstore.FlagOp, flag imap.Flag) (*mailstore.StoreResult, error) {
		return m.Store(ctx, &mailstore.StoreRequest{
			UIDs: imap.UIDSetOf(1, 2, 7), Op: op, Flags: []imap.Flag{flag},
			HasUnchangedSince: true, UnchangedSince: before.ModSeq(0),
		})
	}
	next = imap.E("kv", imap.Unavailable, nil)
	for op, flag := range map[mailstore.FlagOp]imap.Flag{mailstore.FlagsAdd: "KW", mailstore.FlagsRemove: imap.FlagDraft} {
		res, err := store(op, flag)
		if err != nil || res.ModSeq != 0 || res.Modified.String() != "2" || res.Missing.String() != "7" {
			t.Errorf("%s: %+v, %v", flag, res, err)
		}
	}
	if snapshot(t, m) != before {
		t.Error("the mailbox has changed")
	}
	_, err := store(mailstore.FlagsReplace, "kw")
	kindIs(t, err, imap.Unavailable)
}

// failing is a KV whose commits fail when told to.
type failing struct {
	driver.KV
	fail func() error
}

func (f *failing) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	err := f.fail()
	if errors.Is(err, driver.ErrUnknown) {
		// It happened, but nobody knows.
		if uerr := f.KV.Update(ctx, a, fn); uerr != nil {
			return uerr
		}
	}
	if err != nil {
		return err
	}
	return f.KV.Update(ctx, a, fn)
}

func TestFailedCommitShowsNothing(t *testing.T) {
	var next error
	b := newBench(t, mailstore.Options{})
	b.kv = &failing{b.kv, func() error { return next }}
	b.restart(t)
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"))
	m := open(t, a, imap.Inbox)
	before := snapshot(t, m)
	store := func(flag imap.Flag) error {
		_, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOf(1), Op: mailstore.FlagsAdd, Flags: []imap.Flag{flag}})
		return err
	}
	next = imap.E("kv", imap.Unavailable, nil)
	kindIs(t, store(imap.FlagSeen), imap.Unavailable)
	if snapshot(t, m) != before {
		t.Error("a failed change is shown")
	}
	next = driver.ErrUnknown
	kindIs(t, store(imap.FlagFlagged), imap.Unavailable)
	next = nil
	if err := store(imap.FlagDraft); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, m)
	if got := string(s.Flags(s.FlagsID(0)).Wire()); got != `(\Flagged \Draft)` {
		t.Errorf("flags %s", got)
	}
	check(t, b.store)
}

// Two stores over one engine, as two nodes would be.
func TestAnotherProcess(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	m := open(t, a, imap.Inbox)
	appendMail(t, a, imap.Inbox, mail("one"))
	other, err := mailstore.Open(ctx, b.kv, b.blobs, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	a2, err := other.Account(ctx, "ann")
	if err != nil {
		t.Fatal(err)
	}
	appendMail(t, a2, imap.Inbox, mail("two"))
	if uid := appendMail(t, a, imap.Inbox, mail("three")); uid != 3 {
		t.Errorf("UID %d", uid)
	}
	s := snapshot(t, m)
	if got := bodies(t, m, allRows(s)); !slices.Equal(got, []string{mail("one"), mail("two"), mail("three")}) {
		t.Errorf("messages %q", got)
	}
	check(t, b.store)
}

func TestIndexMemoryIsGivenBack(t *testing.T) {
	b := newBench(t, mailstore.Options{IndexMemory: 1})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"))
	m := open(t, a, imap.Inbox)
	s := snapshot(t, m)
	m.Close()
	// Whatever comes later waits behind the dropping of the index.
	if err := a.Subscribe(ctx, "x", true); err != nil {
		t.Fatal(err)
	}
	m = open(t, a, imap.Inbox)
	defer m.Close()
	if snapshot(t, m) == s {
		t.Error("the index was kept beyond the budget")
	}
	if err := a.Subscribe(ctx, "x", false); err != nil {
		t.Fatal(err)
	}
	if now := snapshot(t, m); now != snapshot(t, m) {
		t.Error("the index was dropped while the mailbox was open")
	}
}

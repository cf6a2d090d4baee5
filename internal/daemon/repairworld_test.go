package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
)

// home is the data folder of the tests of repairs.
const home = "home"

func openHome(t *testing.T, disk vfs.FS) *storage {
	t.Helper()
	s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.DiscardHandler), fs: disk})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// seen is what clients have seen of a mailbox.
type seen struct {
	Validity uint32
	UIDNext  uint32
	Highest  uint64
	ID       imap.ObjectID
	Rows     map[uint32]string // all of a message, by UID
}

// state is what clients have seen of all accounts, by account and mailbox.
type state struct {
	Boxes      map[string]*seen
	Subscribed []string
	Expunged   map[string]bool // bodies
}

// bodyOf is the part of a row that names the message.
func bodyOf(row string) string { return row[strings.LastIndex(row, "\n")+1:] }

// look reads what clients see.
func lookAt(t *testing.T, s *storage) *state {
	t.Helper()
	ctx := context.Background()
	st := &state{Boxes: make(map[string]*seen)}
	list, err := s.store.Accounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range list {
		a, err := s.store.Account(ctx, info.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range a.Mailboxes() {
			name := info.Name + ":" + m.Name
			if m.Subscribed {
				st.Subscribed = append(st.Subscribed, name)
			}
			if m.Missing || m.NoSelect {
				continue
			}
			st.Boxes[name] = lookInto(t, a, m)
		}
	}
	return st
}

func lookInto(t *testing.T, a *mailstore.Account, info mailstore.MailboxInfo) *seen {
	t.Helper()
	ctx := context.Background()
	m, err := a.Mailbox(ctx, info.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	snap, err := m.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b := &seen{uint32(snap.UIDValidity()), uint32(snap.UIDNext()), uint64(snap.HighestModSeq()), info.ID, make(map[uint32]string)}
	var rows = slices.Collect(maps.Values(maps.Collect(snap.Rows())))
	slices.SortFunc(rows, func(x, y mailindex.Row) int { return int(x.UID) - int(y.UID) })
	err = m.Fetch(ctx, rows, mailstore.NeedBody|mailstore.NeedDigest|mailstore.NeedText|mailstore.NeedIDs, func(i int, msg *mailstore.Message) error {
		if msg.Err != nil {
			return msg.Err
		}
		text, err := io.ReadAll(io.NewSectionReader(msg.Body, 0, int64(rows[i].Size)))
		if err != nil {
			return err
		}
		r := rows[i]
		b.Rows[uint32(r.UID)] = fmt.Sprintf("%s %d %v %d %s %s %q\n%s", snap.Flags(r.Flags).Wire(), r.ModSeq, r.Date, r.SaveDate, msg.EmailID, msg.ThreadID, msg.Digest.Subject, text[strings.LastIndex(strings.TrimRight(string(text), "\r\n"), "\n")+1:])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// life does things to a store, at random, and remembers what was expunged.
type life struct {
	t        *testing.T
	rng      *rand.Rand
	s        *storage
	expunged map[string]bool
	n        int
	users    []string
}

func (l *life) account() *mailstore.Account {
	l.t.Helper()
	a, err := l.s.store.Account(context.Background(), l.users[l.rng.IntN(len(l.users))])
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

func (l *life) box(a *mailstore.Account) string {
	var names []string
	for _, m := range a.Mailboxes() {
		if !m.NoSelect && !m.Missing {
			names = append(names, m.Name)
		}
	}
	return names[l.rng.IntN(len(names))]
}

func (l *life) uids(m *mailstore.Mailbox) (imap.UIDSet, []string) {
	snap, err := m.Snapshot(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	var set imap.UIDSet
	var rows []mailindex.Row
	for _, r := range snap.Rows() {
		if l.rng.IntN(3) == 0 {
			set.Add(r.UID)
			rows = append(rows, r)
		}
	}
	var bodies []string
	err = m.Fetch(context.Background(), rows, mailstore.NeedBody, func(i int, msg *mailstore.Message) error {
		text, err := io.ReadAll(io.NewSectionReader(msg.Body, 0, int64(rows[i].Size)))
		bodies = append(bodies, string(text[strings.LastIndex(strings.TrimRight(string(text), "\r\n"), "\n")+1:]))
		return errors.Join(err, msg.Err)
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return set, bodies
}

func (l *life) append(a *mailstore.Account, box string, size int) error {
	ctx := context.Background()
	var items []mailstore.AppendItem
	for range 1 + l.rng.IntN(3) {
		l.n++
		text := fmt.Sprintf("Message-ID: <%d@example.org>\r\nReferences: <%d@example.org>\r\nSubject: no %d\r\n\r\n%s\r\nbody %d of its own\r\n", l.n, l.rng.IntN(l.n)+1, l.n, strings.Repeat("text ", size), l.n)
		u, err := a.Upload(ctx, int64(len(text)))
		if err != nil {
			return err
		}
		if _, err := io.WriteString(u, text); err != nil {
			return err
		}
		flags := []imap.Flag{imap.FlagSeen, imap.FlagFlagged, "work", "home"}[l.rng.IntN(3):]
		items = append(items, mailstore.AppendItem{Upload: u, Flags: flags, Date: imap.MakeTime(1e9+int64(l.n), 60), ImportKey: fmt.Sprint("key ", l.n)})
	}
	_, err := a.Append(ctx, box, items)
	return err
}

// step does one thing.
func (l *life) step() {
	l.t.Helper()
	ctx := context.Background()
	a := l.account()
	box := l.box(a)
	m, err := a.Mailbox(ctx, box)
	if err != nil {
		l.t.Fatal(err)
	}
	defer m.Close()
	set, bodies := l.uids(m)
	switch op := l.rng.IntN(14); op {
	case 0, 1, 2, 3:
		err = l.append(a, box, l.rng.IntN(200))
	case 4, 5:
		_, err = m.Store(ctx, &mailstore.StoreRequest{UIDs: set, Op: mailstore.FlagOp(l.rng.IntN(3)), Flags: []imap.Flag{imap.FlagAnswered, imap.Flag(fmt.Sprint("kw", l.rng.IntN(20)))}})
	case 6:
		_, err = m.Copy(ctx, set, l.box(a))
	case 7:
		if to := l.box(a); to != box {
			_, err = m.Move(ctx, set, to)
		}
	case 8, 9:
		_, err = m.Store(ctx, &mailstore.StoreRequest{UIDs: set, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
		if err == nil {
			err = m.Expunge(ctx, &set)
		}
		for _, b := range bodies {
			l.expunged[b] = true // unless there is a copy: see gone
		}
	case 10:
		_, err = a.Create(ctx, fmt.Sprintf("box%d/sub%d", l.rng.IntN(4), l.rng.IntN(3)), nil)
	case 11:
		err = a.Rename(ctx, box, fmt.Sprintf("moved%d", l.rng.IntN(10)))
	case 12:
		err = a.Subscribe(ctx, box, l.rng.IntN(3) > 0)
	case 13:
		if l.rng.IntN(3) == 0 && box != imap.Inbox {
			err = a.Delete(ctx, box)
		}
	}
	switch imap.KindOf(err) {
	case imap.Exists, imap.Cannot, imap.HasChildren, imap.NotFound, imap.Limit:
	default:
		if err != nil {
			l.t.Fatal(err)
		}
	}
}

// lived makes a folder with a history, and returns what clients saw at its end.
func lived(t *testing.T, disk vfs.FS, seed uint64, steps int) (*state, func()) {
	t.Helper()
	l := &life{t: t, rng: rand.New(rand.NewPCG(seed, 99)), expunged: make(map[string]bool), users: []string{"ann", "bob", "eve"}}
	l.s = openHome(t, disk)
	if err := l.s.store.Users().Set(context.Background(), "ann", "a hash"); err != nil {
		t.Fatal(err)
	}
	for i := range steps {
		switch {
		case i == steps/3 || i == steps*2/3:
			if err := l.s.Close(); err != nil {
				t.Fatal(err)
			}
			l.s = openHome(t, disk)
		case i == steps/2:
			if err := l.s.kv.SaveState(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		l.step()
	}
	st := lookAt(t, l.s)
	st.Expunged = l.expunged
	for _, b := range st.Boxes {
		for _, row := range b.Rows {
			delete(st.Expunged, bodyOf(row))
		}
	}
	return st, func() {
		if err := l.s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func get(t *testing.T, disk vfs.FS, path string) []byte {
	t.Helper()
	f, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t *testing.T, disk vfs.FS, path string, data []byte) {
	t.Helper()
	f, err := disk.Create(path, "test")
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// files lists the files below a folder.
func files(t *testing.T, disk vfs.FS, dir string) (list []string) {
	t.Helper()
	names, err := disk.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		path := disk.PathJoin(dir, strings.TrimSuffix(n, "/"))
		if info, err := disk.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			list = append(list, files(t, disk, path)...)
		} else {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return list
}

// repaired is the outcome of a repair.
type repaired struct {
	*RepairResult
	notes []string
	now   *state
}

// repair repairs a folder, and wants it clean and in order afterwards.
func repair(t *testing.T, disk vfs.FS) *repaired {
	t.Helper()
	out := &repaired{}
	var err error
	out.RepairResult, err = Repair(context.Background(), RepairRequest{DataDir: home, fs: disk, Report: func(e RepairEvent) {
		if e.Note != nil {
			out.notes = append(out.notes, fmt.Sprintf("%s: %s", e.Note.Kind, e.Note.Defect))
		}
	}})
	if err != nil {
		t.Fatalf("repair: %v", err)
	}
	if len(out.notes) > 0 {
		if report := string(get(t, disk, out.Kept+"/"+ReportName)); report != strings.Join(out.notes, "\n")+"\n" {
			t.Errorf("the report kept is %q, told was %q", report, out.notes)
		}
	}
	clean(t, disk)
	s := openHome(t, disk)
	out.now = lookAt(t, s)
	if hash, err := s.store.Users().Get(context.Background(), "ann"); (err != nil || hash != "a hash") && out.Lost == 0 {
		t.Errorf("the password: %q, %v", hash, err)
	}
	// It goes on.
	l := &life{t: t, rng: rand.New(rand.NewPCG(1, 1)), s: s, expunged: make(map[string]bool), users: []string{"ann", "bob"}, n: 1_000_000}
	for range 5 {
		l.step()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	clean(t, disk)
	return out
}

// clean wants a check to find nothing.
func clean(t *testing.T, disk vfs.FS) {
	t.Helper()
	dir, err := openDir(disk, home)
	if err != nil {
		t.Fatal(err)
	}
	s, err := look(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	k := &check{storage: s, report: func(e admin.Event) {
		if e.Defect != nil {
			t.Errorf("check after the repair: %s", e.Defect)
		}
	}}
	if err := k.run(context.Background()); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.closeEngines(), dir.Close()); err != nil {
		t.Error(err)
	}
}

// same wants everything as it was.
func same(t *testing.T, want *state, got *repaired) {
	t.Helper()
	if d := cmp.Diff(want.Boxes, got.now.Boxes); d != "" {
		t.Errorf("mailboxes differ:\n%s\nnotes: %s", d, strings.Join(got.notes, "\n"))
	}
	if d := cmp.Diff(want.Subscribed, got.now.Subscribed); d != "" {
		t.Errorf("subscriptions differ:\n%s", d)
	}
	if got.Lost+got.Recovered+got.Renewed > 0 {
		t.Errorf("%+v: %s", got.RepairResult, strings.Join(got.notes, "\n"))
	}
}

// honest wants what can be had after any damage: whatever is not as it was is in
// a mailbox with another UIDVALIDITY, in Recovered, or named. Where index or journal
// is whole it proves what was expunged: then that is nowhere.
func honest(t *testing.T, want *state, got *repaired, proof bool) {
	t.Helper()
	all := strings.Join(got.notes, "\n")
	bodies := make(map[string]bool) // that are there, by account
	for name, b := range got.now.Boxes {
		account, _, _ := strings.Cut(name, ":")
		before := want.Boxes[name]
		if before != nil && before.Validity == b.Validity && before.Highest > b.Highest {
			t.Errorf("%s: the mod-sequence goes back from %d to %d", name, before.Highest, b.Highest)
		}
		for uid, row := range b.Rows {
			bodies[account+bodyOf(row)] = true
			if before != nil && before.Validity == b.Validity && uid < before.UIDNext && bodyOf(before.Rows[uid]) != bodyOf(row) {
				t.Errorf("%s UID %d: %q was %q", name, uid, row, before.Rows[uid])
			}
			if want.Expunged[bodyOf(row)] && (proof || before != nil && before.Validity == b.Validity && !strings.HasSuffix(name, ":"+mailstore.RecoveredMailbox)) {
				t.Errorf("%s UID %d: expunged mail is back: %q\n%s", name, uid, row, all)
			}
		}
	}
	for name, b := range want.Boxes {
		account, box, _ := strings.Cut(name, ":")
		now := got.now.Boxes[name]
		for uid, row := range b.Rows {
			if now != nil && now.Rows[uid] != "" {
				continue
			}
			named := strings.Contains(all, fmt.Sprintf("lost: %s %s UID %d:", account, box, uid))
			if !named && !bodies[account+bodyOf(row)] && !bodies["recovered-"+bodyOf(row)] && !lostElsewhere(all, got, account, bodyOf(row)) {
				t.Errorf("%s UID %d is dropped silently: %q\n%s", name, uid, row, all)
			}
		}
	}
}

// lostElsewhere says whether a message that is nowhere is covered by a line that
// cannot name its UID: accounts without names, files that are gone with nothing
// to tell what was in them.
func lostElsewhere(all string, got *repaired, account, body string) bool {
	for name, b := range got.now.Boxes {
		if strings.HasPrefix(name, "recovered-") {
			for _, row := range b.Rows {
				if bodyOf(row) == body {
					return true
				}
			}
		}
	}
	return strings.Contains(all, "lost: "+account+": a message is lost") || strings.Contains(all, "lost: "+account+" : a message") ||
		strings.Contains(all, "a message that came to this mailbox cannot be read")
}

package mailstore_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
)

// modelMessage is a message as the naive model of a store keeps it.
type modelMessage struct {
	uid   imap.UID
	body  string
	flags map[imap.Flag]bool
}

func (m *modelMessage) wire() string {
	return fmt.Sprint(slices.Sorted(maps.Keys(m.flags)))
}

type modelBox struct {
	validity imap.UIDValidity
	next     imap.UID
	msgs     []*modelMessage
}

// machine runs the same operations on a store and on a model.
type machine struct {
	t     *rapid.T
	b     *bench
	a     *mailstore.Account
	boxes map[string]*modelBox
	open  map[string]*mailstore.Mailbox // a session that looks on all the time
	view  map[string]*mailindex.Snapshot
	made  int
	used  imap.UIDValidity
}

var machineFlags = []imap.Flag{imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged, "kw1", "kw2"}

func (m *machine) flags() []imap.Flag {
	return rapid.SliceOfDistinct(rapid.SampledFrom(machineFlags), func(f imap.Flag) imap.Flag { return f }).Draw(m.t, "flags")
}

func flagSet(flags []imap.Flag) map[imap.Flag]bool {
	set := make(map[imap.Flag]bool)
	for _, f := range flags {
		set[f] = true
	}
	return set
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) pick() string {
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.boxes))).Draw(m.t, "mailbox")
}

// pickUIDs draws UIDs, some of which may not exist.
func (m *machine) pickUIDs(box *modelBox) imap.UIDSet {
	if rapid.Bool().Draw(m.t, "all") {
		return imap.UIDSetOfRange(1, max(box.next, 2)-1)
	}
	uids := rapid.SliceOf(rapid.Uint32Range(1, uint32(box.next))).Draw(m.t, "uids")
	var set imap.UIDSet
	for _, u := range uids {
		set.Add(imap.UID(u))
	}
	return set
}

func (m *machine) session(name string) *mailstore.Mailbox {
	if m.open[name] == nil {
		m.open[name] = open(m.t, m.a, name)
		m.view[name] = snapshot(m.t, m.open[name])
	}
	return m.open[name]
}

func (m *machine) append() {
	name := m.pick()
	box := m.boxes[name]
	var items []mailstore.AppendItem
	for range rapid.IntRange(1, 4).Draw(m.t, "messages") {
		m.made++
		body := mail(fmt.Sprint("m", m.made))
		flags := m.flags()
		items = append(items, mailstore.AppendItem{Upload: upload(m.t, m.a, body), Flags: flags})
		box.msgs = append(box.msgs, &modelMessage{uid: box.next, body: body, flags: flagSet(flags)})
		box.next++
	}
	res, err := m.a.Append(ctx, name, items)
	m.must(err)
	if last := res.UIDs[len(res.UIDs)-1]; last != box.next-1 || res.UIDValidity != box.validity {
		m.t.Fatalf("Append gave UIDs %v of %d, want them below %d of %d", res.UIDs, res.UIDValidity, box.next, box.validity)
	}
}

func (m *machine) store() {
	name := m.pick()
	box := m.boxes[name]
	s := m.session(name)
	req := &mailstore.StoreRequest{
		UIDs: m.pickUIDs(box), Flags: m.flags(),
		Op: mailstore.FlagOp(rapid.IntRange(0, 2).Draw(m.t, "op")),
	}
	before := snapshot(m.t, s)
	if rapid.Bool().Draw(m.t, "conditional") {
		req.HasUnchangedSince = true
		req.UnchangedSince = imap.ModSeq(rapid.IntRange(0, int(before.HighestModSeq())).Draw(m.t, "since"))
	}
	res, err := s.Store(ctx, req)
	m.must(err)
	var modified imap.UIDSet
	for i, msg := range box.msgs {
		if !req.UIDs.Contains(msg.uid) {
			continue
		}
		if req.HasUnchangedSince && before.ModSeq(i) > req.UnchangedSince {
			modified.Add(msg.uid)
			continue
		}
		switch req.Op {
		case mailstore.FlagsReplace:
			msg.flags = flagSet(req.Flags)
		case mailstore.FlagsAdd:
			maps.Copy(msg.flags, flagSet(req.Flags))
		case mailstore.FlagsRemove:
			for _, f := range req.Flags {
				delete(msg.flags, f)
			}
		}
	}
	if !res.Modified.Equal(modified) {
		m.t.Fatalf("modified %v, want %v", res.Modified, modified)
	}
	after := snapshot(m.t, s)
	for _, i := range mailindex.Compare(before, after).Changed {
		if after.ModSeq(i) != res.ModSeq || res.ModSeq <= before.HighestModSeq() {
			m.t.Fatalf("mod-sequence %d, reported %d after %d", after.ModSeq(i), res.ModSeq, before.HighestModSeq())
		}
	}
}

func (m *machine) expunge() {
	name := m.pick()
	box := m.boxes[name]
	var uids *imap.UIDSet
	if rapid.Bool().Draw(m.t, "uid expunge") {
		set := m.pickUIDs(box)
		uids = &set
	}
	m.must(m.session(name).Expunge(ctx, uids))
	box.msgs = slices.DeleteFunc(box.msgs, func(msg *modelMessage) bool {
		return msg.flags[imap.FlagDeleted] && (uids == nil || uids.Contains(msg.uid))
	})
}

func (m *machine) copy(move bool) {
	name, dest := m.pick(), m.pick()
	src, dst := m.boxes[name], m.boxes[dest]
	uids := m.pickUIDs(src)
	s := m.session(name)
	do := s.Copy
	if move {
		do = s.Move
	} else {
		// Ghosts are copied too: that has a test of its own.
		m.view[name] = snapshot(m.t, s)
		s.Release(m.view[name].HighestModSeq())
	}
	res, err := do(ctx, uids, dest)
	m.must(err)
	var source, made []imap.UID
	var kept, copies []*modelMessage
	for _, msg := range src.msgs {
		if !uids.Contains(msg.uid) {
			kept = append(kept, msg)
			continue
		}
		if !move {
			kept = append(kept, msg)
		}
		copies = append(copies, &modelMessage{body: msg.body, flags: maps.Clone(msg.flags)})
		source = append(source, msg.uid)
	}
	src.msgs = kept
	for _, c := range copies {
		c.uid = dst.next
		dst.next++
		made = append(made, c.uid)
	}
	dst.msgs = append(dst.msgs, copies...)
	if !slices.Equal(res.Source, source) || !slices.Equal(res.Dest, made) || res.UIDValidity != dst.validity {
		m.t.Fatalf("copied %v to %v, want %v to %v", res.Source, res.Dest, source, made)
	}
}

func (m *machine) create() {
	m.made++
	name := fmt.Sprintf("box%d", m.made%5)
	_, err := m.a.Create(ctx, name, nil)
	if m.boxes[name] != nil {
		if imap.KindOf(err) != imap.Exists {
			m.t.Fatalf("creating %s again: %v", name, err)
		}
		return
	}
	m.must(err)
	m.boxes[name] = &modelBox{next: 1}
	m.adopt(name)
}

// adopt notes the UIDVALIDITY of a new mailbox.
func (m *machine) adopt(name string) {
	s, err := m.a.Status(name)
	m.must(err)
	if s.UIDValidity <= m.used {
		m.t.Fatalf("UIDVALIDITY %d after %d", s.UIDValidity, m.used)
	}
	m.used = s.UIDValidity
	m.boxes[name].validity = s.UIDValidity
}

func (m *machine) remove() {
	name := m.pick()
	if name == imap.Inbox {
		return
	}
	m.must(m.a.Delete(ctx, name))
	delete(m.boxes, name)
	m.leave(name)
}

func (m *machine) leave(name string) {
	if s := m.open[name]; s != nil {
		s.Close()
		delete(m.open, name)
		delete(m.view, name)
	}
}

func (m *machine) rename() {
	from := m.pick()
	m.made++
	to := fmt.Sprintf("renamed%d", m.made)
	m.must(m.a.Rename(ctx, from, to))
	m.leave(from)
	if from != imap.Inbox {
		m.boxes[to] = m.boxes[from]
		delete(m.boxes, from)
		return
	}
	inbox := m.boxes[from]
	m.boxes[to] = &modelBox{next: 1}
	for _, msg := range inbox.msgs {
		msg.uid = m.boxes[to].next
		m.boxes[to].next++
		m.boxes[to].msgs = append(m.boxes[to].msgs, msg)
	}
	inbox.msgs = nil
	m.adopt(to)
}

func (m *machine) restart() {
	for name := range m.open {
		m.leave(name)
	}
	m.b.restart(m.t)
	m.a = m.b.account(m.t, "ann")
}

// look checks that an old view, with what has vanished since, is still
// readable, and then goes to the latest one.
func (m *machine) look() {
	name := m.pick()
	s := m.session(name)
	old := m.view[name]
	for i, body := range bodies(m.t, s, allRows(old)) {
		if !strings.HasPrefix(body, "Message-ID:") {
			m.t.Fatalf("UID %d of an old view reads %q", old.UID(i), body)
		}
	}
	latest := snapshot(m.t, s)
	gone := mailindex.Compare(old, latest).VanishedUIDs
	uids, complete, err := s.Expunged(ctx, old.HighestModSeq())
	m.must(err)
	if !complete || !gone.Subtract(uids).IsEmpty() {
		m.t.Fatalf("the history has %v (complete: %v), %v vanished", uids, complete, gone)
	}
	m.view[name] = latest
	s.Release(latest.HighestModSeq())
}

// verify compares the store with the model.
func (m *machine) verify() {
	for name, box := range m.boxes {
		s := open(m.t, m.a, name)
		snap := snapshot(m.t, s)
		st, err := m.a.Status(name)
		m.must(err)
		if snap.Len() != len(box.msgs) || snap.UIDNext() < box.next || snap.UIDValidity() != box.validity {
			m.t.Fatalf("%s has %d messages, UIDNEXT %d, want %d, %d", name, snap.Len(), snap.UIDNext(), len(box.msgs), box.next)
		}
		got := bodies(m.t, s, allRows(snap))
		for i, msg := range box.msgs {
			flags := fmt.Sprint(slices.Sorted(slices.Values(snap.Flags(snap.FlagsID(i)).List())))
			if snap.UID(i) != msg.uid || got[i] != msg.body || flags != msg.wire() {
				m.t.Fatalf("%s: UID %d %s %q, want %d %s %q", name, snap.UID(i), flags, got[i], msg.uid, msg.wire(), msg.body)
			}
		}
		if int(st.Messages) != snap.Len() || int(st.Unseen) != snap.Unseen() || st.Size != snap.Size() || int(st.Recent) != snap.Recent() {
			m.t.Fatalf("%s: STATUS %+v does not agree with the rows", name, st)
		}
		s.Close()
	}
	check(m.t, m.b.store)
}

func TestStoreAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opts := mailstore.Options{
			TxnRows:  rapid.SampledFrom([]int{0, 2}).Draw(t, "rows in a transaction"),
			PageRows: rapid.SampledFrom([]int{0, 3}).Draw(t, "rows in a page"),
			FoldRows: 3,
		}
		m := &machine{t: t, boxes: map[string]*modelBox{}, open: map[string]*mailstore.Mailbox{}, view: map[string]*mailindex.Snapshot{}}
		m.b = &bench{kv: newKV(), blobs: newBlobs(), opts: quiet(opts)}
		m.b.open(t)
		defer func() { m.b.store.Close(ctx) }()
		m.a = m.b.account(t, "ann")
		m.boxes[imap.Inbox] = &modelBox{next: 1}
		m.adopt(imap.Inbox)
		actions := map[string]func(){
			"append": m.append, "store": m.store, "expunge": m.expunge, "create": m.create, "delete": m.remove,
			"copy": func() { m.copy(false) }, "move": func() { m.copy(true) }, "rename": m.rename,
			"restart": m.restart, "look": m.look, "append again": m.append,
		}
		for range rapid.IntRange(1, 25).Draw(t, "actions") {
			actions[rapid.SampledFrom(slices.Sorted(maps.Keys(actions))).Draw(t, "action")]()
		}
		m.verify()
		m.restart()
		m.verify()
	})
}

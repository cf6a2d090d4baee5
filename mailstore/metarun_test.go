package mailstore_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
)

// metaBroken begins what no configuration may answer.
const metaBroken = "BROKEN"

// metaRun runs a list on one configuration and notes the answers.
type metaRun struct {
	t       testing.TB
	d       *metaDisk
	steps   int
	open    map[string]*metaSession
	ids     map[string]string // object identifiers by user, numbered as they are first seen
	answers []string
}

// metaSession is a session with a mailbox open, and what it has seen of it.
type metaSession struct {
	m    *mailstore.Mailbox
	view *mailindex.Snapshot
}

func runMeta(t testing.TB, c metaConfig, ops []metaOp) []string {
	t.Helper()
	r := &metaRun{t: t, open: make(map[string]*metaSession), ids: make(map[string]string)}
	c.opts = quiet(c.opts)
	c.opts.HistoryRanges = 8
	c.opts.MaxMailboxes = 6
	c.opts.MaxKeywords = 8 // fewer than there are
	c.opts.Now = func() time.Time { return time.Unix(1_700_000_000+int64(r.steps)*10, 0) }
	r.d = newMetaDisk(t, c)
	for _, op := range metaBegin() {
		r.do(op)
	}
	for _, op := range ops {
		r.say("%s: %s", op.kind, r.do(op))
		r.steps++
	}
	r.leave("")
	r.everything()
	r.d.restart()
	r.everything()
	r.d.close()
	return r.answers
}

func (r *metaRun) say(format string, args ...any) {
	r.answers = append(r.answers, fmt.Sprintf(format, args...))
}

// failed is how an error answers: by its kind.
func failed(err error) string {
	kind := imap.KindOf(err)
	if kind == imap.Other || kind == imap.ServerBug || kind == imap.Corruption || kind == imap.Unavailable {
		return metaBroken + " " + err.Error()
	}
	return fmt.Sprint("no: ", kind)
}

func (r *metaRun) do(op metaOp) string {
	user, box := metaUsers[op.user], metaBoxes[op.box]
	switch op.kind {
	case "restart":
		r.leave("")
		r.d.restart()
		return "done"
	case "tidy":
		if r.d.c.sweeps {
			if err := r.d.store.Sweep(ctx); err != nil {
				return failed(err)
			}
			if b, ok := r.d.kv.(closer); ok {
				if err := b.blobs.(*bloblog.Store).Tidy(ctx); err != nil {
					return failed(err)
				}
			}
		}
		return r.checked()
	case "rename account":
		r.leave(user)
		if err := r.d.store.RenameAccount(ctx, user, "x"+user); err != nil {
			return failed(err)
		}
		return fmt.Sprint("done: ", r.d.store.RenameAccount(ctx, "x"+user, user))
	case "remove account":
		r.leave(user)
		if op.a%2 == 0 {
			return fmt.Sprint("left: ", op.a%2)
		}
		if err := r.d.store.RemoveAccount(ctx, user); err != nil {
			return failed(err)
		}
		for key := range r.ids { // they begin anew
			if strings.HasPrefix(key, user+" ") {
				delete(r.ids, key)
			}
		}
		return "done"
	}
	a, err := r.d.store.Account(ctx, user)
	if err != nil {
		return failed(err)
	}
	switch op.kind {
	case "append":
		return r.append(a, box, op)
	case "burst":
		return r.burst(a, op)
	case "create":
		return r.create(user, box, a)
	case "delete":
		return r.outcome(a.Delete(ctx, box))
	case "rename":
		return r.outcome(a.Rename(ctx, box, metaBoxes[op.dest]))
	case "subscribe":
		return r.outcome(a.Subscribe(ctx, box, op.a%3 > 0))
	case "status":
		return r.status(user, a)
	case "seen":
		seen, err := a.ImportSeen(ctx, []string{metaKey(op.a), metaKey(op.b), metaKey(op.c)})
		return fmt.Sprint(seen, err)
	}
	return r.inMailbox(a, op)
}

func (r *metaRun) outcome(err error) string {
	if err != nil {
		return failed(err)
	}
	return "done"
}

func (r *metaRun) create(user, box string, a *mailstore.Account) string {
	id, err := a.Create(ctx, box, nil)
	if err != nil {
		return failed(err)
	}
	return r.name(user, id)
}

// name names an object identifier by when it was first seen.
func (r *metaRun) name(user string, id imap.ObjectID) string {
	key := user + " " + string(id)
	if r.ids[key] == "" && id != "" {
		r.ids[key] = fmt.Sprint("#", r.steps, ".", len(r.ids))
	}
	return r.ids[key]
}

func metaKey(n uint32) string { return fmt.Sprint("key ", n%10) }

func metaFlags(bits uint32) (list []imap.Flag) {
	for i, f := range []imap.Flag{imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged, imap.FlagAnswered, "one", "Two", "$Three"} {
		if bits>>i&1 == 1 {
			list = append(list, f)
		}
	}
	if bits>>7&31 == 0 {
		list = append(list, imap.Flag(fmt.Sprint("kw", bits>>12%20)))
	}
	return list
}

// metaUIDs are some UIDs, which may not exist: one, a range, some, or all.
func metaUIDs(a, b uint32) imap.UIDSet {
	x, y := imap.UID(a>>4%30+1), imap.UID(b>>4%30+1)
	switch a % 4 {
	case 0:
		return imap.UIDSetOf(x)
	case 1:
		return imap.UIDSetOfRange(min(x, y), max(x, y))
	case 2:
		return imap.UIDSetOf(x, y, x/2+1, y/2+1, 1)
	}
	return imap.UIDSetOfRange(1, 1<<32-1)
}

func (r *metaRun) upload(a *mailstore.Account, text string, known bool) *mailstore.Upload {
	size := int64(-1)
	if known {
		size = int64(len(text))
	}
	u, err := a.Upload(ctx, size)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(u, text); err != nil {
		r.t.Fatal(err)
	}
	return u
}

func (r *metaRun) append(a *mailstore.Account, box string, op metaOp) string {
	items := make([]mailstore.AppendItem, op.b%5+1)
	for i := range items {
		n := op.a%1000 + uint32(i)
		items[i] = mailstore.AppendItem{Upload: r.upload(a, metaMessage(n), n%2 == 0), Flags: metaFlags(op.b >> i & (op.c >> i))}
		if op.c%3 > 0 {
			items[i].Date = imap.MakeTime(1e9+int64(n), int(n%5)*60)
		}
		if op.c%5 == 0 {
			items[i].ImportKey = metaKey(op.a + uint32(i)*op.b)
		}
	}
	res, err := a.Append(ctx, box, items)
	if err != nil {
		return failed(err)
	}
	return fmt.Sprint(res.UIDValidity, res.UIDs)
}

// burst appends to several mailboxes at once; nobody's answer depends on who
// comes first.
func (r *metaRun) burst(a *mailstore.Account, op metaOp) string {
	boxes := slices.Compact(slices.Sorted(slices.Values(metaBoxes)))
	answers := make([]string, len(boxes))
	var wg sync.WaitGroup
	for i, box := range boxes {
		wg.Go(func() {
			u := r.upload(a, fmt.Sprintf("Message-ID: <burst %d %d %d>\r\n\r\nHello.\r\n", i, op.a, r.steps), true)
			res, err := a.Append(ctx, box, []mailstore.AppendItem{{Upload: u, Flags: metaFlags(op.b & op.c)}})
			if err != nil {
				answers[i] = failed(err)
				return
			}
			answers[i] = fmt.Sprint(res.UIDValidity, res.UIDs)
		})
	}
	wg.Wait()
	return strings.Join(answers, "; ")
}

func (r *metaRun) status(user string, a *mailstore.Account) string {
	var b strings.Builder
	for _, info := range a.Mailboxes() {
		fmt.Fprintf(&b, "\n  %s noselect=%v missing=%v subscribed=%v %s", info.Name, info.NoSelect, info.Missing, info.Subscribed, r.name(user, info.ID))
		if st, err := a.Status(info.Name); err == nil {
			fmt.Fprintf(&b, " %d messages, %d recent, %d unseen, %d deleted, UIDNEXT %d, UIDVALIDITY %d, HIGHESTMODSEQ %d, SIZE %d, %d deleted",
				st.Messages, st.Recent, st.Unseen, st.Deleted, st.UIDNext, st.UIDValidity, st.HighestModSeq, st.Size, st.DeletedSize)
		}
	}
	return b.String()
}

func (r *metaRun) leave(user string) {
	for key, s := range r.open {
		if strings.HasPrefix(key, user) {
			s.m.Close()
			delete(r.open, key)
		}
	}
}

func (r *metaRun) inMailbox(a *mailstore.Account, op metaOp) string {
	key := fmt.Sprint(metaUsers[op.user], " ", op.session)
	s := r.open[key]
	if s == nil {
		m, err := a.Mailbox(ctx, metaBoxes[op.box])
		if err != nil {
			return failed(err)
		}
		s = &metaSession{m: m}
		if s.view, err = m.Snapshot(ctx); err != nil {
			m.Close()
			return failed(err)
		}
		r.open[key] = s
	}
	switch op.kind {
	case "close":
		delete(r.open, key)
		return r.outcome(s.m.Close())
	case "look":
		return r.look(metaUsers[op.user], s)
	case "fetch":
		return r.fetch(metaUsers[op.user], s.m, s.view)
	case "recent":
		first, last, err := s.m.ClaimRecent(ctx)
		if err != nil {
			return failed(err)
		}
		return fmt.Sprint(first, last)
	case "expunge":
		return r.outcome(s.m.Expunge(ctx, nil))
	case "uid expunge":
		uids := metaUIDs(op.a, op.b)
		return r.outcome(s.m.Expunge(ctx, &uids))
	case "copy", "move":
		do := s.m.Copy
		if op.kind == "move" {
			do = s.m.Move
		}
		res, err := do(ctx, metaUIDs(op.a, op.b), metaBoxes[op.dest])
		if err != nil {
			return failed(err)
		}
		return fmt.Sprint(res.UIDValidity, res.Source, res.Dest)
	}
	req := &mailstore.StoreRequest{UIDs: metaUIDs(op.a, op.b), Op: mailstore.FlagOp(op.c % 3), Flags: metaFlags(op.b >> 8 & (op.c >> 8))}
	if op.kind == "store unchanged" {
		req.HasUnchangedSince, req.UnchangedSince = true, imap.ModSeq(op.c>>8%40)
	}
	res, err := s.m.Store(ctx, req)
	if err != nil {
		return failed(err)
	}
	return fmt.Sprint(res.ModSeq, " modified ", res.Modified, " missing ", res.Missing)
}

// look compares the view with what is there now, and goes on to it.
func (r *metaRun) look(user string, s *metaSession) string {
	latest, err := s.m.Snapshot(ctx)
	if err != nil {
		return failed(err) + r.fetch(user, s.m, s.view) // deleted, and still readable
	}
	gone, complete, err := s.m.Expunged(ctx, s.view.HighestModSeq())
	if err != nil {
		return failed(err)
	}
	changes := mailindex.Compare(s.view, latest)
	old := r.fetch(user, s.m, s.view)
	s.view = latest
	s.m.Release(latest.HighestModSeq())
	return fmt.Sprintf("gone %v (complete: %v), changed %v%s", gone, complete, changes, old)
}

// fetch writes down all that is known of the messages of a view.
func (r *metaRun) fetch(user string, m *mailstore.Mailbox, view *mailindex.Snapshot) string {
	var b strings.Builder
	rows := allRows(view)
	need := mailstore.NeedDigest | mailstore.NeedHeader | mailstore.NeedBody | mailstore.NeedText | mailstore.NeedIDs
	err := m.Fetch(ctx, rows, need, func(i int, msg *mailstore.Message) error {
		row := &rows[i]
		fmt.Fprintf(&b, "\n  %d %v %d %d %v %d", row.UID, slices.Sorted(slices.Values(view.Flags(row.Flags).List())), row.ModSeq, row.Size, row.Date, row.SaveDate)
		if msg.Err != nil {
			fmt.Fprintf(&b, " %s", failed(msg.Err))
			return nil
		}
		body, err := io.ReadAll(io.NewSectionReader(msg.Body, 0, int64(row.Size)))
		if err != nil {
			return err
		}
		raw, err := io.ReadAll(io.NewSectionReader(msg.Raw, 0, msg.RawSize))
		if err != nil {
			return err
		}
		digest, err := msg.Digest.AppendBinary(nil)
		if err != nil {
			return err
		}
		text, err := msg.Text.AppendBinary(nil)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, " %s %s %.4x %.4x %.4x %.4x %.4x", r.name(user, msg.EmailID), r.name(user, msg.ThreadID),
			sha256.Sum256(msg.Header), sha256.Sum256(body), sha256.Sum256(raw), sha256.Sum256(digest), sha256.Sum256(text))
		return nil
	})
	if err != nil {
		return failed(err)
	}
	return b.String()
}

func (r *metaRun) checked() string {
	defects, err := r.d.store.Check(ctx)
	if err != nil {
		return failed(err)
	}
	if len(defects) > 0 {
		return fmt.Sprint(metaBroken, " check: ", defects)
	}
	return "sound"
}

// everything writes down what is there, and checks it.
func (r *metaRun) everything() {
	list, err := r.d.store.Accounts(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, info := range list {
		a, err := r.d.store.Account(ctx, info.Name)
		if err != nil {
			r.t.Fatal(err)
		}
		r.say("%s: %s", info.Name, r.status(info.Name, a))
		for _, box := range a.Mailboxes() {
			m, err := a.Mailbox(ctx, box.Name)
			if err != nil {
				continue // said by status
			}
			r.say("%s %s: %s", info.Name, box.Name, r.fetch(info.Name, m, snapshot(r.t, m)))
			m.Close()
		}
	}
	r.say("%s", r.checked())
}

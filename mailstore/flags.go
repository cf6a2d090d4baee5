package mailstore

import (
	"context"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// FlagOp is what a Store does with its flags.
type FlagOp uint8

// The operations of Store.
const (
	FlagsReplace FlagOp = iota
	FlagsAdd
	FlagsRemove
)

// StoreRequest is a change of flags.
type StoreRequest struct {
	UIDs  imap.UIDSet
	Op    FlagOp
	Flags []imap.Flag
	// UnchangedSince, where HasUnchangedSince is set, leaves out messages whose
	// mod-sequence is greater (RFC 7162 section 3.1.3).
	UnchangedSince    imap.ModSeq
	HasUnchangedSince bool
}

// StoreResult is the outcome of a Store.
type StoreResult struct {
	ModSeq   imap.ModSeq // of the messages that have changed; 0 where none has
	Modified imap.UIDSet // left out because of UnchangedSince
	Missing  imap.UIDSet // asked for, but not in the mailbox
}

// Store changes flags. Messages that have the flags already keep their
// mod-sequence.
func (m *Mailbox) Store(ctx context.Context, req *StoreRequest) (*StoreResult, error) {
	fs := &flagStore{m: m, req: req}
	err := m.a.submit(ctx, &op{weight: 10_000, run: fs.run})
	if err != nil {
		return nil, imap.E("mailstore: store flags in "+m.name, imap.Other, err)
	}
	return &fs.res, nil
}

type flagStore struct {
	m   *Mailbox
	req *StoreRequest
	res StoreResult
}

func (s *flagStore) run(t *opTx) error {
	e, err := t.edit(s.m.box.num, true)
	if err != nil {
		return err
	}
	changed := s.apply(e)
	if changed.IsEmpty() {
		return nil
	}
	if err := s.write(e, changed); err != nil {
		return err
	}
	e.touch()
	e.done()
	return nil
}

// write writes what apply has changed: rows by themselves where they are few or
// far from each other, else one record that says what has become of all of them.
func (s *flagStore) write(e *boxEdit, changed imap.UIDSet) error {
	ranges := changed.Ranges()
	first, _ := e.base.Find(ranges[0].Start)
	last, _ := e.base.Find(ranges[len(ranges)-1].Stop)
	if n := int(changed.Len()); n >= e.t.a.store.bulkRows() && worthPage(n, last-first+1) {
		return e.putStoring(s.req, changed)
	}
	for uid := range changed.All() {
		i, _ := e.base.Find(uid)
		row := e.base.Row(i)
		row.Flags, row.ModSeq = e.ed.FlagsID(i), e.modseq
		if err := e.putRow(&row); err != nil {
			return err
		}
	}
	return nil
}

// apply makes the change in memory and returns the UIDs that it touches.
func (s *flagStore) apply(e *boxEdit) imap.UIDSet {
	s.res = StoreResult{}
	f := applying{s: s, e: e}
	for _, r := range s.req.UIDs.Ranges() {
		i, _ := e.base.Find(r.Start)
		for page := range e.base.PagesFrom(i) {
			from := max(i-page.First, 0)
			to, _ := slices.BinarySearch(page.UIDs, r.Stop)
			if to < page.Len() && page.UIDs[to] == r.Stop {
				to++
			}
			f.rows(page, from, to)
			if to < page.Len() {
				break
			}
		}
	}
	s.res.Missing = s.req.UIDs.Subtract(f.present)
	if !f.changed.IsEmpty() {
		s.res.ModSeq = e.modseq
	}
	return f.changed
}

// applying is apply at work.
type applying struct {
	s                *flagStore
	e                *boxEdit
	next             []mailindex.FlagsID // what flags become, plus 1; 0 where that is not known yet
	present, changed imap.UIDSet
}

// rows goes through some rows of a page, by runs of those with the same flags.
func (f *applying) rows(page *mailindex.Page, from, to int) {
	req := f.s.req
	for from < to {
		if req.HasUnchangedSince && page.ModSeqs[from] > req.UnchangedSince {
			f.present.Add(page.UIDs[from])
			f.s.res.Modified.Add(page.UIDs[from])
			from++
			continue
		}
		old, end := page.Flags[from], from+1
		for end < to && page.Flags[end] == old && !(req.HasUnchangedSince && page.ModSeqs[end] > req.UnchangedSince) {
			end++
		}
		addUIDs(&f.present, page.UIDs[from:end])
		if id := f.becomes(old); id != old {
			f.e.setFlags(page.First+from, end-from, id)
			addUIDs(&f.changed, page.UIDs[from:end])
		}
		from = end
	}
}

// becomes returns what the request makes of flags.
func (f *applying) becomes(old mailindex.FlagsID) mailindex.FlagsID {
	if int(old) >= len(f.next) {
		f.next = append(f.next, make([]mailindex.FlagsID, int(old)+1-len(f.next))...)
	}
	if f.next[old] == 0 {
		req := f.s.req
		f.next[old] = 1 + f.e.ed.Intern(applyFlags(req.Op, f.e.ed.Flags(old).List(), req.Flags))
	}
	return f.next[old] - 1
}

// addUIDs adds UIDs, which ascend and mostly follow each other.
func addUIDs(set *imap.UIDSet, uids []imap.UID) {
	for len(uids) > 0 {
		n := 1
		for n < len(uids) && uids[n] == uids[0]+imap.UID(n) {
			n++
		}
		set.AddRange(uids[0], uids[n-1])
		uids = uids[n:]
	}
}

// applyFlags returns the flags that an operation leaves.
func applyFlags(op FlagOp, old, flags []imap.Flag) []imap.Flag {
	switch op {
	case FlagsAdd:
		return append(slices.Clip(old), flags...)
	case FlagsRemove:
		return slices.DeleteFunc(old, func(f imap.Flag) bool {
			return slices.ContainsFunc(flags, func(g imap.Flag) bool { return imap.EqualFlag(f, g) })
		})
	}
	return flags
}

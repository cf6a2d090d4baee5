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
// mod-sequence, and where all have them there is nothing to wait for: what is
// published is on disk.
func (m *Mailbox) Store(ctx context.Context, req *StoreRequest) (*StoreResult, error) {
	fs := &flagStore{m: m, req: req}
	if fs.idle(m.box.state.Load()) {
		return &fs.res, nil
	}
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

// idle reports whether the request changes nothing of a published state, and then
// has the result.
func (s *flagStore) idle(st *boxState) bool {
	if st == nil || st.snap == nil {
		return false
	}
	f := applying{s: s, base: st.snap}
	return f.all()
}

// apply makes the change in memory and returns the UIDs that it touches.
func (s *flagStore) apply(e *boxEdit) imap.UIDSet {
	f := applying{s: s, base: e.base, e: e}
	f.all()
	if !f.changed.IsEmpty() {
		s.res.ModSeq = e.modseq
	}
	return f.changed
}

// applying is a request that goes through the rows it is about.
type applying struct {
	s                *flagStore
	base             *mailindex.Snapshot
	e                *boxEdit            // nil where nothing is to be changed
	next             []mailindex.FlagsID // what flags become, plus 1; 0 where that is not known yet
	present, changed imap.UIDSet
}

// all goes through all rows, and has the result then. Without an edit it ends at
// the first row that would change, and reports that by false.
func (f *applying) all() bool {
	s := f.s
	s.res = StoreResult{}
	for _, r := range s.req.UIDs.Ranges() {
		i, _ := f.base.Find(r.Start)
		for page := range f.base.PagesFrom(i) {
			from := max(i-page.First, 0)
			to, _ := slices.BinarySearch(page.UIDs, r.Stop)
			if to < page.Len() && page.UIDs[to] == r.Stop {
				to++
			}
			if !f.rows(page, from, to) {
				return false
			}
			if to < page.Len() {
				break
			}
		}
	}
	s.res.Missing = s.req.UIDs.Subtract(f.present)
	return true
}

// rows goes through some rows of a page, by runs of those with the same flags.
func (f *applying) rows(page *mailindex.Page, from, to int) bool {
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
			if f.e == nil {
				return false
			}
			f.e.setFlags(page.First+from, end-from, id)
			addUIDs(&f.changed, page.UIDs[from:end])
		}
		from = end
	}
	return true
}

// becomes returns what the request makes of flags: without an edit, something else
// where it changes them.
func (f *applying) becomes(old mailindex.FlagsID) mailindex.FlagsID {
	if int(old) >= len(f.next) {
		f.next = append(f.next, make([]mailindex.FlagsID, int(old)+1-len(f.next))...)
	}
	if f.next[old] == 0 {
		req, set := f.s.req, f.base.Flags(old)
		switch {
		case req.keeps(set):
			f.next[old] = 1 + old
		case f.e == nil:
			return old + 1
		default:
			f.next[old] = 1 + f.e.ed.Intern(applyFlags(req.Op, set.List(), req.Flags))
		}
	}
	return f.next[old] - 1
}

// keeps reports whether the request leaves a combination of flags as it is.
func (r *StoreRequest) keeps(set *mailindex.FlagSet) bool {
	for _, f := range r.Flags {
		if f.IsSystem() && mailindex.BitOf(f) == 0 {
			continue // no message can have it for good
		}
		if set.Has(f) == (r.Op == FlagsRemove) {
			return false
		}
	}
	return r.Op != FlagsReplace || !slices.ContainsFunc(set.List(), func(f imap.Flag) bool {
		return !slices.ContainsFunc(r.Flags, func(g imap.Flag) bool { return imap.EqualFlag(f, g) })
	})
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

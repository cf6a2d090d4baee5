package imapserver

import (
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// storeReport is what a STORE did, so that flush can tell more or less of it.
type storeReport struct {
	req    *StoreRequest
	modseq imap.ModSeq
	silent bool // tell only what the client cannot know
	quiet  bool // not even the mod-sequence: the command tells it itself
	uid    bool // the command was UID STORE
}

// foresee returns what the client knows of the rows that it has changed itself
// with .SILENT; nil where it is told of all.
func (rep *storeReport) foresee(old, new *mailindex.Snapshot) *foresight {
	if rep == nil || !rep.silent {
		return nil
	}
	return &foresight{rep: rep, old: old, new: new}
}

// foresight tells which rows have just the flags that a client expects after its
// STORE.SILENT: those it need not be told.
type foresight struct {
	rep      *storeReport
	old, new *mailindex.Snapshot

	// Rows by the thousand have few combinations of flags, and those of the old
	// snapshot mostly become the same ones: by number, what was asked about last.
	asked []reflagging
}

// reflagging is what flags have become.
type reflagging struct {
	asked    bool
	is       mailindex.FlagsID
	expected bool // is is what the client expects
}

// known is a mailindex.Known.
func (f *foresight) known(uid imap.UID, modseq imap.ModSeq, was, is mailindex.FlagsID) bool {
	if modseq != f.rep.modseq || !f.rep.req.UIDs.Contains(uid) {
		return false
	}
	if int(was) >= len(f.asked) {
		f.asked = append(f.asked, make([]reflagging, int(was)+1-len(f.asked))...)
	}
	r := &f.asked[was]
	if !r.asked || r.is != is {
		*r = reflagging{true, is, f.expects(was, is)}
	}
	return r.expected
}

// sees reports whether a row of the new snapshot is foreseen.
func (f *foresight) sees(row mailindex.Row) bool {
	if f == nil {
		return false
	}
	pos, ok := f.old.Find(row.UID)
	return ok && f.known(row.UID, row.ModSeq, f.old.FlagsID(pos), row.Flags)
}

func (f *foresight) expects(was, is mailindex.FlagsID) bool {
	want := applyFlags(f.old.Flags(was).List(), f.rep.req.Op, f.rep.req.Flags)
	return flagKey(want) == flagKey(f.new.Flags(is).List())
}

// applyFlags is what STORE makes of a message's flags.
func applyFlags(have []imap.Flag, op FlagOp, with []imap.Flag) []imap.Flag {
	switch op {
	case FlagsReplace:
		return with
	case FlagsAdd:
		return append(slices.Clone(have), with...)
	}
	return slices.DeleteFunc(slices.Clone(have), func(f imap.Flag) bool {
		return slices.ContainsFunc(with, func(g imap.Flag) bool { return imap.EqualFlag(f, g) })
	})
}

// flagKey is equal for lists that hold the same flags.
func flagKey(flags []imap.Flag) string {
	keys := make([]string, 0, len(flags))
	for _, f := range flags {
		if !imap.EqualFlag(f, imap.FlagRecent) {
			keys = append(keys, f.Fold())
		}
	}
	slices.Sort(keys)
	key := ""
	for _, k := range slices.Compact(keys) {
		key += k + " "
	}
	return key
}

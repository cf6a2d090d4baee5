package imapserver

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// selection is a selected mailbox as one session sees it. It is used with the
// connection's mu held.
type selection struct {
	name     string
	box      Mailbox
	readOnly bool
	stop     func() // ends the watch; nil before it has begun

	// view is what the client has been told of: sequence number n is position
	// n-1 in it. It holds the ghosts of messages that are gone and whose EXPUNGE
	// could not be sent yet. latest is the state that view is made from.
	view, latest *mailindex.Snapshot

	recent   imap.UIDSet // messages that have \Recent in this session
	saved    imap.UIDSet // the saved search result (RFC 9051 section 6.4.4.1)
	keywords int         // how many keywords FLAGS has told
}

// flushMode says what a flush may tell.
type flushMode uint8

const (
	flushAll     flushMode = iota
	flushKeepSeq           // no EXPUNGE: sequence numbers are in use
)

// flush looks at the mailbox and tells the client what is new, as far as mode
// allows. It writes nothing where nothing has changed.
func (s *selection) flush(ctx context.Context, c *Conn, mode flushMode, rep *storeReport) error {
	latest, err := s.box.Snapshot(ctx)
	if err != nil {
		return err
	}
	return s.show(ctx, c, latest, mode, rep)
}

// show tells the client what is new in a snapshot that is at least as new as
// s.latest.
func (s *selection) show(ctx context.Context, c *Conn, latest *mailindex.Snapshot, mode flushMode, rep *storeReport) error {
	if rep == nil && latest == s.latest && (mode == flushKeepSeq || s.view == latest) {
		return nil
	}
	next := latest
	if mode == flushKeepSeq {
		next = mailindex.WithGhosts(s.view, latest)
	}
	old, foreseen := s.view, rep.foresee(s.view, next)
	var known mailindex.Known
	if foreseen != nil && (rep.quiet || !c.enabled.condstore) { // else their mod-sequence is news
		known = foreseen.known
	}
	ch := mailindex.CompareUnknown(old, next, known)
	s.view, s.latest = next, latest
	s.tellExpunged(c, &ch)
	s.tellKeywords(c)
	var claim error // the rest is told all the same: view has moved on
	if ch.Added < next.Len() {
		s.tellExists(c)
		if c.idling.Load() {
			// The claim below waits for the disk, and a client in IDLE for news.
			_ = c.enc.Flush()
		}
		claim = s.claimRecent(ctx, c)
		s.tellRecent(c)
	}
	s.tellFlags(c, ch.Changed, ch.Added, rep, foreseen)
	if mode == flushAll && len(ch.Vanished) > 0 {
		s.saved = s.saved.Subtract(ch.VanishedUIDs)
		s.recent = s.recent.Subtract(ch.VanishedUIDs)
	}
	if mode == flushAll {
		s.box.Release(latest.HighestModSeq())
	}
	return claim
}

// tellExpunged sends EXPUNGE, or VANISHED to a client with QRESYNC (RFC 7162
// section 3.2.10).
func (s *selection) tellExpunged(c *Conn, ch *mailindex.Changes) {
	if len(ch.Vanished) == 0 {
		return
	}
	w := c.enc
	if c.enabled.qresync {
		w.Raw("* VANISHED ")
		w.UIDSet(ch.VanishedUIDs)
		w.CRLF()
		return
	}
	for gone, pos := range ch.Vanished {
		w.Raw("* ")
		w.Number(uint32(pos - gone + 1)) // each EXPUNGE renumbers those behind it
		w.Raw(" EXPUNGE\r\n")
	}
}

// tellKeywords sends FLAGS when the mailbox has got new keywords.
func (s *selection) tellKeywords(c *Conn) {
	if all := s.latest.Keywords(); len(all) > s.keywords {
		s.keywords = len(all)
		c.writeFlags(s)
	}
}

// tellExists sends EXISTS.
func (s *selection) tellExists(c *Conn) {
	w := c.enc
	w.Raw("* ")
	w.Number(uint32(s.view.Len()))
	w.Raw(" EXISTS\r\n")
}

// tellRecent sends RECENT under IMAP4rev1.
func (s *selection) tellRecent(c *Conn) {
	if c.enabled.rev2 {
		return
	}
	w := c.enc
	w.Raw("* ")
	w.Number(uint32(s.countRecent()))
	w.Raw(" RECENT\r\n")
}

// claimRecent takes \Recent of new messages for this session, if it is one that
// may: read-write, and of a client that knows the flag.
func (s *selection) claimRecent(ctx context.Context, c *Conn) error {
	if s.readOnly || c.enabled.rev2 {
		return nil
	}
	first, last, err := s.box.ClaimRecent(ctx)
	if err == nil && first <= last && first > 0 {
		s.recent.AddRange(first, last)
	}
	return err
}

// countRecent counts the messages of the view that have \Recent here.
func (s *selection) countRecent() int {
	if s.readOnly {
		return s.view.Recent()
	}
	n := 0
	for _, r := range s.recent.Ranges() {
		from, _ := s.view.Find(r.Start)
		to, last := s.view.Find(r.Stop)
		if last {
			to++
		}
		n += to - from
	}
	return n
}

// isRecent reports whether a message has \Recent in this session.
func (s *selection) isRecent(uid imap.UID) bool {
	if s.readOnly {
		return uid >= s.view.FirstRecent()
	}
	return s.recent.Contains(uid)
}

// tellFlags sends FETCH responses for messages whose flags have changed, and
// for those that a STORE was about, whether they changed or not.
func (s *selection) tellFlags(c *Conn, changed []int, added int, rep *storeReport, f *foresight) {
	positions := changed
	if rep != nil && !rep.silent {
		positions = s.withStored(changed, added, rep)
	}
	for _, pos := range positions {
		row := s.view.Row(pos)
		t := told{flags: true, modseq: c.enabled.condstore, uid: c.enabled.qresync || c.enabled.rev2}
		if rep != nil && rep.req.UIDs.Contains(row.UID) {
			t.uid = t.uid || rep.uid
			t.flags = !f.sees(row)
		}
		if t.flags || t.modseq {
			s.writeFlagsOf(c, pos, row, t)
		}
	}
}

// withStored adds the positions of stored messages to those that changed, which
// ascend.
func (s *selection) withStored(changed []int, added int, rep *storeReport) []int {
	all := make([]int, 0, len(changed)+int(rep.req.UIDs.Len()))
	for uid := range rep.req.UIDs.All() {
		pos, ok := s.view.Find(uid)
		if !ok || pos >= added {
			continue
		}
		for len(changed) > 0 && changed[0] <= pos {
			if changed[0] < pos {
				all = append(all, changed[0])
			}
			changed = changed[1:]
		}
		all = append(all, pos)
	}
	return append(all, changed...)
}

// told says what a FETCH response about flags has in it.
type told struct{ uid, flags, modseq bool }

func (s *selection) writeFlagsOf(c *Conn, pos int, row mailindex.Row, t told) {
	w := c.enc
	w.Raw("* ")
	w.Number(uint32(pos + 1))
	w.Raw(" FETCH (")
	space := ""
	if t.uid {
		w.Raw("UID ")
		w.Number(uint32(row.UID))
		space = " "
	}
	if t.flags {
		w.Raw(space + "FLAGS ")
		w.RawBytes(s.wireFlags(row.UID, row.Flags))
		space = " "
	}
	if t.modseq {
		w.Raw(space + "MODSEQ (")
		w.ModSeq(row.ModSeq)
		w.Raw(")")
	}
	w.Raw(")\r\n")
}

// wireFlags returns the flags of a message as they are sent, with \Recent where
// it has it.
func (s *selection) wireFlags(uid imap.UID, id mailindex.FlagsID) []byte {
	set := s.view.Flags(id)
	if s.isRecent(uid) {
		return set.WireRecent()
	}
	return set.Wire()
}

// resolve turns a set of sequence numbers, or in a UID command of UIDs, into
// positions in the view and UIDs. Sequence numbers that do not exist are an
// error; UIDs that do not exist are left out (RFC 9051 section 6.4.9).
func (s *selection) resolve(set imap.NumSet, saved, uid bool) (imap.UIDSet, error) {
	var uids imap.UIDSet
	switch {
	case saved:
		return s.present(s.saved), nil
	case uid:
		return s.present(set.Resolve(uint32(s.view.LastUID()))), nil
	}
	n := uint32(s.view.Len())
	for _, r := range set.ResolveSeq(n).Ranges() {
		if uint32(r.Stop) > n || r.Start == 0 {
			return uids, bad("There is no message %d; the mailbox has %d", r.Stop, n)
		}
		s.addPositions(&uids, int(r.Start-1), int(r.Stop-1))
	}
	if uids.IsEmpty() {
		return uids, bad("There is no such message; the mailbox is empty")
	}
	return uids, nil
}

// addPositions adds the UIDs at the positions from first to last.
func (s *selection) addPositions(uids *imap.UIDSet, first, last int) {
	for p := range s.view.PagesFrom(first) {
		from, to := max(first-p.First, 0), min(last-p.First+1, p.Len())
		if to <= 0 {
			return
		}
		for from < to {
			// Runs of consecutive UIDs are added at once.
			run := from
			for run+1 < to && p.UIDs[run+1] == p.UIDs[run]+1 {
				run++
			}
			uids.AddRange(p.UIDs[from], p.UIDs[run])
			from = run + 1
		}
	}
}

// present returns the part of a set that is in the view.
func (s *selection) present(set imap.UIDSet) imap.UIDSet {
	var uids imap.UIDSet
	for _, r := range set.Ranges() {
		from, _ := s.view.Find(r.Start)
		to, found := s.view.Find(r.Stop)
		if !found {
			to--
		}
		if from <= to {
			s.addPositions(&uids, from, to)
		}
	}
	return uids
}

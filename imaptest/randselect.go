package imaptest

import (
	"fmt"
	"slices"
	"strings"
)

// selectInbox selects or examines, with QRESYNC where the session has been
// here before, and checks that it is told all that it missed.
func (w *world) selectInbox(s *session, op randomOp, readOnly bool) error {
	s.stop()
	verb := "SELECT"
	if readOnly {
		verb = "EXAMINE"
	}
	text := verb + " INBOX"
	saved := s.saved
	if !s.qresync || op.b%4 == 0 {
		saved = nil
	}
	if saved != nil {
		known := ""
		if op.c%2 == 0 && len(saved.view) > 0 {
			known = " " + set(saved.view)
		}
		text += fmt.Sprintf(" (QRESYNC (%s %d%s))", w.truth.uidValidity, saved.highest, known)
	}
	s.start(readOnly)
	vanished := map[uint32]bool{}
	r, err := s.command(text, false, func(r *response) error { return w.selecting(s, r, vanished) })
	if err != nil {
		return err
	}
	mode := "READ-WRITE"
	if readOnly {
		mode = "READ-ONLY"
	}
	if r.status != "OK" || len(r.code) != 1 || !isWord(r.code[0], mode) {
		return fmt.Errorf("%s: %s", text, r.raw)
	}
	if !slices.Equal(s.view, w.truth.alive) {
		return fmt.Errorf("%s: %d messages, but there are %v", text, len(s.view), w.truth.alive)
	}
	if s.condstore && s.highest == 0 {
		return fmt.Errorf("%s: no HIGHESTMODSEQ", text)
	}
	if saved != nil {
		return w.missed(s, saved, vanished)
	}
	return nil
}

// selecting takes in what SELECT says.
func (w *world) selecting(s *session, r *response, vanished map[uint32]bool) error {
	switch {
	case len(r.code) == 2 && isWord(r.code[0], "UIDVALIDITY"):
		return w.truth.validity(r.code[1].text)
	case r.status == "" && len(r.nodes) == 2 && isWord(r.nodes[1], "EXISTS"):
		if len(s.view) == len(w.truth.alive) {
			s.view = slices.Clone(w.truth.alive)
		}
	case r.status == "" && len(r.nodes) == 3 && isWord(r.nodes[0], "VANISHED"):
		uids, ok := numbers(r.nodes[2].text)
		if !ok {
			return fmt.Errorf("bad set of UIDs")
		}
		for _, uid := range uids {
			vanished[uint32(uid)] = true
			if w.truth.isAlive(uint32(uid)) {
				return fmt.Errorf("UID %d has not vanished", uid)
			}
		}
	}
	return nil
}

// missed checks the answer to QRESYNC (RFC 7162 section 3.2.5.1).
func (w *world) missed(s *session, saved *savedView, vanished map[uint32]bool) error {
	var lost []string
	for _, uid := range saved.view {
		flags, known := saved.told[uid]
		switch _, fetched := s.fetched[uid]; {
		case !w.truth.isAlive(uid):
			if !vanished[uid] {
				lost = append(lost, fmt.Sprintf("UID %d has vanished", uid))
			}
		case fetched && s.told[uid] != w.truth.flags[uid]:
			lost = append(lost, fmt.Sprintf("UID %d has flags (%s), not (%s)", uid, w.truth.flags[uid], s.told[uid]))
		case !fetched && known && flags != w.truth.flags[uid]:
			lost = append(lost, fmt.Sprintf("UID %d has flags (%s), no longer (%s)", uid, w.truth.flags[uid], flags))
		}
	}
	if lost != nil {
		return fmt.Errorf("QRESYNC since %d did not tell: %s", saved.highest, strings.Join(lost, "; "))
	}
	for uid, flags := range saved.told { // what has not changed is still known
		if _, fetched := s.fetched[uid]; !fetched && w.truth.isAlive(uid) {
			s.told[uid] = flags
		}
	}
	return nil
}

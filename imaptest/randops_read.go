package imaptest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
)

// move runs MOVE or UID MOVE to another mailbox. COPYUID says what went.
func (w *world) move(s *session, text string, uids []uint32) error {
	if !w.have["MOVE"] {
		return w.noop(s)
	}
	var moved []uint32
	r, err := s.command(text, true, func(r *response) error {
		if sets := codeNumbers(r, "COPYUID"); len(sets) == 3 {
			for _, uid := range sets[1] {
				moved = append(moved, uint32(uid))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	alive, ghosts := w.living(uids)
	if s.readOnly || r.status != "OK" {
		if r.status != "NO" || (!s.readOnly && ghosts == 0) {
			return fmt.Errorf("%s: %s", text, r.raw)
		}
		return w.observe(alive)
	}
	for _, uid := range moved {
		w.truth.kill(uid)
		if slices.Contains(s.view, uid) {
			return fmt.Errorf("%s did not tell that UID %d is gone", text, uid)
		}
	}
	for _, uid := range alive {
		if w.truth.isAlive(uid) {
			return fmt.Errorf("%s left UID %d behind", text, uid)
		}
	}
	return nil
}

// copy runs COPY to INBOX itself, so that new messages come from there, too.
func (w *world) copy(s *session, text string, uids []uint32) error {
	r, err := s.command(text, true, nil)
	if err != nil {
		return err
	}
	_, ghosts := w.living(uids)
	if r.status != "OK" {
		if r.status != "NO" || ghosts == 0 {
			return fmt.Errorf("%s: %s", text, r.raw)
		}
		return nil
	}
	sets := codeNumbers(r, "COPYUID")
	if sets == nil && ghosts == len(uids) {
		return nil
	}
	if len(sets) != 3 || len(sets[1]) != len(sets[2]) {
		return fmt.Errorf("%s: wants COPYUID: %s", text, r.raw)
	}
	var unsure []uint32
	for i := range sets[1] {
		from, to := uint32(sets[1][i]), uint32(sets[2][i])
		if err := w.truth.add(to, w.truth.flags[from]); err != nil {
			return err
		}
		if err := w.truth.body(to, w.truth.bodies[from]); err != nil {
			return err
		}
		if !w.truth.isAlive(from) {
			unsure = append(unsure, to)
		}
	}
	return w.observe(unsure)
}

// fetch runs FETCH or UID FETCH. What is alive must be answered; what is gone
// may make it NO or be left out, but if it is answered, then whole.
func (w *world) fetch(s *session, text string, uids []uint32, byUID, sees bool) error {
	alive, ghosts := w.living(uids)
	if sees && !s.readOnly {
		for _, uid := range uids {
			w.truth.may(uid, changed("+FLAGS", w.truth.flags[uid], []string{`\Seen`}))
		}
	}
	answered := map[uint32]bool{}
	view := slices.Clone(s.view)
	r, err := s.command(text, byUID, func(r *response) error {
		if f, err := parseFetch(r); err == nil && len(r.nodes) == 3 && isWord(r.nodes[1], "FETCH") {
			answered[f.uid] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.status != "OK" && (r.status != "NO" || ghosts == 0) {
		return fmt.Errorf("%s: %s", text, r.raw)
	}
	if r.status == "NO" {
		return w.observe(alive)
	}
	for _, uid := range alive {
		if !answered[uid] {
			return fmt.Errorf("%s: no answer for UID %d of %v", text, uid, view)
		}
		if sees && !s.readOnly {
			w.truth.set(uid, changed("+FLAGS", w.truth.flags[uid], []string{`\Seen`}))
			if s.told[uid] != w.truth.flags[uid] {
				delete(s.told, uid)
			}
		}
	}
	return nil
}

// search checks that the answer holds numbers of this session, ascending.
func (w *world) search(s *session, text string, byUID bool) error {
	view := slices.Clone(s.view)
	seen := false
	_, err := w.ok(s, text, byUID, func(r *response) error {
		if r.status != "" || !isWord(r.nodes[0], "SEARCH") {
			return nil
		}
		seen = true
		last := uint64(0)
		for _, n := range r.nodes[1:] {
			if n.kind == kindList {
				continue
			}
			num, err := strconv.ParseUint(n.text, 10, 32)
			if err != nil || num <= last {
				return fmt.Errorf("bad or descending number %q", n.text)
			}
			last = num
			known := num <= uint64(len(s.view))
			if byUID {
				known = slices.Contains(view, uint32(num)) || slices.Contains(s.view, 0) || slices.Contains(s.view, uint32(num))
			}
			if !known {
				return fmt.Errorf("number %d means nothing to this session: %v", num, s.view)
			}
		}
		return nil
	})
	if err == nil && !seen {
		err = fmt.Errorf("%s: no SEARCH response", text)
	}
	return err
}

// noop brings a session up to date.
func (w *world) noop(s *session) error {
	if _, err := w.ok(s, "NOOP", true, nil); err != nil {
		return err
	}
	if !s.selected {
		return nil
	}
	if err := s.resolve(); err != nil {
		return err
	}
	return w.current(s)
}

// current checks that a session knows all there is.
func (w *world) current(s *session) error {
	if !slices.Equal(s.view, w.truth.alive) {
		return fmt.Errorf("after NOOP session %s sees UIDs %v; there are %v", s.name, s.view, w.truth.alive)
	}
	for uid, flags := range s.told {
		if w.truth.isAlive(uid) && flags != w.truth.flags[uid] {
			return fmt.Errorf("after NOOP session %s thinks that UID %d has (%s); it has (%s)", s.name, uid, flags, w.truth.flags[uid])
		}
	}
	return nil
}

// check compares everything after NOOP.
func (w *world) check(s *session) error {
	if err := w.noop(s); err != nil || len(s.view) == 0 {
		return err
	}
	items := "(UID FLAGS)"
	if s.condstore {
		items = "(UID FLAGS MODSEQ)"
	}
	if _, err := w.ok(s, "FETCH 1:* "+items, false, nil); err != nil {
		return err
	}
	if len(s.fetched) != len(s.view) {
		return fmt.Errorf("FETCH 1:* answered for %d of %d messages", len(s.fetched), len(s.view))
	}
	if err := w.current(s); err != nil {
		return err
	}
	var want, got []uint64
	for i, uid := range s.view {
		if !hasFlag(w.truth.flags[uid], `\seen`) {
			want = append(want, uint64(i+1))
		}
	}
	_, err := w.ok(s, "SEARCH UNSEEN", false, func(r *response) error {
		if r.status == "" && isWord(r.nodes[0], "SEARCH") {
			for _, n := range r.nodes[1:] {
				num, err := strconv.ParseUint(n.text, 10, 32)
				if err != nil {
					return err
				}
				got = append(got, num)
			}
		}
		return nil
	})
	if err == nil && !slices.Equal(want, got) {
		err = fmt.Errorf("SEARCH UNSEEN found %v, not %v", got, want)
	}
	return err
}

func (w *world) idle(s *session) error {
	if !w.have["IDLE"] {
		return w.noop(s)
	}
	s.gone, s.fetched = nil, map[uint32]struct{}{}
	if err := s.c.send("IDLE", nil, false); err != nil {
		return err
	}
	for !s.idling {
		r, err := s.c.next()
		if err != nil {
			return err
		}
		if r.tag == "+" {
			s.idling = true
			s.guess()
		} else if r.tag != "*" {
			return fmt.Errorf("IDLE: %s", r.raw)
		} else if err := s.untagged(r, true); err != nil {
			return err
		}
	}
	return nil
}

// settleIdle reads until the session has been told everything.
func (w *world) settleIdle(s *session) error {
	for {
		s.guess()
		err := w.current(s)
		if err == nil {
			return w.settled(s)
		}
		r, readErr := s.c.next()
		if readErr != nil {
			return fmt.Errorf("%w, and %w", readErr, err)
		}
		if r.tag != "*" {
			return fmt.Errorf("within IDLE: %s", r.raw)
		}
		if err := s.untagged(r, true); err != nil {
			return fmt.Errorf("%s: %w", display(r), err)
		}
	}
}

func (w *world) endIdle(s *session) error {
	if err := s.c.send("DONE", nil, false); err != nil {
		return err
	}
	r, err := s.await(true, nil)
	if err == nil && r.status != "OK" {
		err = fmt.Errorf("DONE: %s", r.raw)
	}
	s.idling = false
	return err
}

func (w *world) restart(ctx context.Context) error {
	if !w.options.Restarts || w.server.Restart == nil {
		return nil
	}
	w.closeAll()
	for _, s := range w.sessions {
		s.idling = false
		s.stop()
	}
	if err := w.server.Restart(ctx); err != nil {
		return err
	}
	c, err := w.login(ctx, "z")
	if err != nil {
		return err
	}
	w.observer.c = c
	for i := range w.sessions {
		if err := w.open(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// observe lets the observer look up what happened to messages whose fate the
// answers left open.
func (w *world) observe(uids []uint32) error {
	if len(uids) == 0 {
		return nil
	}
	found := map[uint32]string{}
	c := w.observer.c
	if _, err := c.simple("EXAMINE INBOX", nil); err != nil {
		return err
	}
	list, err := c.simple("UID FETCH "+set(uids)+" (FLAGS)", nil)
	if err != nil {
		return err
	}
	for _, r := range list {
		if len(r.nodes) == 3 && isWord(r.nodes[1], "FETCH") {
			f, err := parseFetch(r)
			if err != nil {
				return err
			}
			found[f.uid] = f.flags
		}
	}
	for _, uid := range uids {
		flags, ok := found[uid]
		if !ok {
			w.truth.kill(uid)
			continue
		}
		if err := w.truth.had(uid, flags); err != nil {
			return err
		}
		w.truth.set(uid, flags)
	}
	return nil
}

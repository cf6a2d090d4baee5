package imaptest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A registry holds what must be the same for all sessions of a mailbox. It is
// safe for concurrent use.
type registry struct {
	mu          sync.Mutex
	uidValidity string
	flagsAt     map[flagsKey]string
	bodies      map[uint32]string
	recent      map[uint32]string // uid to the session that it is recent in
}

type flagsKey struct {
	uid    uint32
	modSeq uint64
}

func newRegistry() *registry {
	return &registry{flagsAt: map[flagsKey]string{}, bodies: map[uint32]string{}, recent: map[uint32]string{}}
}

// state notes that a message had these flags at a mod-sequence; another
// session must never have been told otherwise.
func (g *registry) state(uid uint32, modSeq uint64, flags string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := flagsKey{uid, modSeq}
	if old, ok := g.flagsAt[key]; ok && old != flags {
		return fmt.Errorf("UID %d at MODSEQ %d has flags (%s), but somebody was told (%s)", uid, modSeq, flags, old)
	}
	g.flagsAt[key] = flags
	return nil
}

// body notes the bytes of a message; everybody must see the same.
func (g *registry) body(uid uint32, body string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old, ok := g.bodies[uid]; ok && old != body {
		return fmt.Errorf("UID %d has the body %q, not %q", uid, body, old)
	}
	g.bodies[uid] = body
	return nil
}

// recentIn notes that a message is recent in a session that may write.
func (g *registry) recentIn(uid uint32, session string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old, ok := g.recent[uid]; ok && old != session {
		return fmt.Errorf(`UID %d is \Recent in session %s and was in %s`, uid, session, old)
	}
	g.recent[uid] = session
	return nil
}

func (g *registry) validity(v string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.uidValidity != "" && g.uidValidity != v {
		return fmt.Errorf("UIDVALIDITY was %s and is %s", g.uidValidity, v)
	}
	g.uidValidity = v
	return nil
}

// A session is one connection and what it has been told of INBOX.
type session struct {
	name     string
	id       string // name and number of the selection, for \Recent
	c        *client
	registry *registry
	truth    *truth // nil where commands run at the same time

	condstore, qresync bool
	selected, readOnly bool
	idling             bool
	selections         int

	view    []uint32            // UIDs by sequence number; 0: not known yet
	told    map[uint32]string   // flags by UID, as far as known
	modSeqs map[uint32]uint64   // MODSEQ by UID, as far as known
	highest uint64              // HIGHESTMODSEQ
	gone    []uint32            // UIDs that the present command took away
	fetched map[uint32]struct{} // UIDs with FLAGS in the present command
	saved   *savedView
	fault   *fault // during the present command, or nil
}

// A savedView is what a client keeps to come back with QRESYNC.
type savedView struct {
	highest uint64
	view    []uint32
	told    map[uint32]string
}

func newSession(name string, c *client, g *registry) *session {
	return &session{name: name, c: c, registry: g}
}

// command sends a command and takes in all that is said up to its tagged
// response. each, when not nil, sees the untagged responses, too.
func (s *session) command(text string, mayExpunge bool, each func(*response) error) (*response, error) {
	s.gone, s.fetched = nil, map[uint32]struct{}{}
	if err := s.c.send(text, nil, false); err != nil {
		return nil, err
	}
	return s.await(mayExpunge, each)
}

// await takes in what is said up to the tagged response.
func (s *session) await(mayExpunge bool, each func(*response) error) (*response, error) {
	for {
		r, err := s.c.next()
		if err != nil {
			return nil, err
		}
		if r.tag == s.c.tag() {
			s.c.answered(r)
			if s.fault != nil {
				if err := s.fault.end(r); err != nil {
					return r, err
				}
			}
			return r, s.code(r)
		}
		if err := s.untagged(r, mayExpunge); err != nil {
			return nil, fmt.Errorf("%s: %w", display(r), err)
		}
		if each != nil {
			if err := each(r); err != nil {
				return nil, fmt.Errorf("%s: %w", display(r), err)
			}
		}
	}
}

// untagged takes in one untagged response.
func (s *session) untagged(r *response, mayExpunge bool) error {
	if r.tag == "+" {
		return nil
	}
	if r.status == "BYE" {
		return fmt.Errorf("the server said goodbye")
	}
	if r.status != "" {
		return s.code(r)
	}
	if isWord(r.nodes[0], "VANISHED") {
		return s.vanished(r, mayExpunge)
	}
	if len(r.nodes) < 2 {
		return nil
	}
	n, err := strconv.Atoi(r.nodes[0].text)
	if err != nil {
		return nil
	}
	switch r.nodes[1].text {
	case "EXISTS":
		return s.exists(n)
	case "EXPUNGE":
		return s.expunged(n, mayExpunge)
	case "RECENT":
		if n > len(s.view) {
			return fmt.Errorf("more recent messages than messages (%d)", len(s.view))
		}
	case "FETCH":
		return s.fetch(n, r)
	}
	return nil
}

func (s *session) code(r *response) error {
	if len(r.code) != 2 || !isWord(r.code[0], "HIGHESTMODSEQ") {
		return nil
	}
	m, err := strconv.ParseUint(r.code[1].text, 10, 63)
	if err != nil {
		return err
	}
	if m < s.highest {
		return fmt.Errorf("HIGHESTMODSEQ fell from %d to %d", s.highest, m)
	}
	s.highest = m
	return nil
}

func (s *session) exists(n int) error {
	if n < len(s.view) {
		return fmt.Errorf("EXISTS fell from %d without EXPUNGE", len(s.view))
	}
	for len(s.view) < n {
		s.view = append(s.view, 0)
	}
	if s.idling && s.truth != nil {
		s.guess()
	}
	return nil
}

// guess gives UIDs to new messages: within IDLE one cannot ask, but one
// command at a time is all that happens.
func (s *session) guess() {
	last := uint32(0)
	for i, uid := range s.view {
		if uid == 0 {
			next, ok := s.truth.after(last)
			if !ok {
				return
			}
			s.view[i] = next
		}
		last = s.view[i]
	}
}

func (s *session) expunged(n int, mayExpunge bool) error {
	if !mayExpunge {
		return fmt.Errorf("EXPUNGE during FETCH, STORE or SEARCH by sequence number (RFC 9051 7.5.1)")
	}
	if s.qresync {
		return fmt.Errorf("EXPUNGE after ENABLE QRESYNC, which wants VANISHED")
	}
	if n < 1 || n > len(s.view) {
		return fmt.Errorf("there are %d messages", len(s.view))
	}
	s.remove(n - 1)
	return nil
}

func (s *session) remove(i int) {
	if uid := s.view[i]; uid != 0 {
		s.gone = append(s.gone, uid)
		delete(s.told, uid)
	}
	s.view = slices.Delete(s.view, i, i+1)
}

func (s *session) vanished(r *response, mayExpunge bool) error {
	if !s.qresync {
		return fmt.Errorf("VANISHED without ENABLE QRESYNC")
	}
	if len(r.nodes) == 3 {
		return nil // (EARLIER) does not change sequence numbers
	}
	if !mayExpunge {
		return fmt.Errorf("VANISHED during FETCH, STORE or SEARCH by sequence number (RFC 7162 3.2.10)")
	}
	uids, ok := numbers(r.nodes[1].text)
	if !ok {
		return fmt.Errorf("bad set of UIDs")
	}
	for _, uid := range uids {
		i := slices.Index(s.view, uint32(uid))
		if i < 0 {
			i = slices.Index(s.view, 0)
		}
		if i < 0 {
			return fmt.Errorf("UID %d vanished, but this session had never heard of it", uid)
		}
		s.remove(i)
	}
	return nil
}

// fetchedItems are what one FETCH response says.
type fetchedItems struct {
	uid      uint32
	flags    string
	hasFlags bool
	recent   bool
	modSeq   uint64
	body     string
	hasBody  bool
}

func parseFetch(r *response) (f fetchedItems, err error) {
	if len(r.nodes) != 3 || len(r.nodes[2].kids)%2 != 0 {
		return f, fmt.Errorf("FETCH wants a list of names and values")
	}
	kids := r.nodes[2].kids
	for i := 0; i < len(kids); i += 2 {
		value := kids[i+1]
		switch kids[i].text {
		case "UID":
			n, err := strconv.ParseUint(value.text, 10, 32)
			if err != nil || n == 0 {
				return f, fmt.Errorf("bad UID %q", value.text)
			}
			f.uid = uint32(n)
		case "FLAGS":
			f.hasFlags = true
			f.flags, f.recent = canonical(value.kids)
		case "MODSEQ":
			if len(value.kids) != 1 {
				return f, fmt.Errorf("bad MODSEQ")
			}
			if f.modSeq, err = strconv.ParseUint(value.kids[0].text, 10, 63); err != nil {
				return f, err
			}
		case "BODY[]":
			f.hasBody = value.kind == kindString
			f.body = value.text
		}
	}
	return f, nil
}

// canonical writes flags without regard to order and case, \Recent apart.
func canonical(flags []node) (text string, recent bool) {
	var list []string
	for _, f := range flags {
		name := strings.ToLower(f.text)
		if name == `\recent` {
			recent = true
			continue
		}
		list = append(list, name)
	}
	slices.Sort(list)
	return strings.Join(list, " "), recent
}

func (s *session) fetch(n int, r *response) error {
	f, err := parseFetch(r)
	if err != nil {
		return err
	}
	if n < 1 || n > len(s.view) {
		return fmt.Errorf("there are %d messages", len(s.view))
	}
	if f.uid != 0 {
		if err := s.learn(n-1, f.uid); err != nil {
			return err
		}
	}
	uid := s.view[n-1]
	if uid == 0 {
		return nil
	}
	if f.modSeq != 0 {
		if f.modSeq < s.modSeqs[uid] {
			return fmt.Errorf("MODSEQ of UID %d fell from %d", uid, s.modSeqs[uid])
		}
		s.modSeqs[uid] = f.modSeq
	}
	if f.hasBody {
		if err := s.registry.body(uid, f.body); err != nil {
			return err
		}
	}
	if !f.hasFlags {
		return nil
	}
	s.told[uid] = f.flags
	s.fetched[uid] = struct{}{}
	if f.recent && !s.readOnly {
		if err := s.registry.recentIn(uid, s.id); err != nil {
			return err
		}
	}
	if s.truth != nil {
		if err := s.truth.had(uid, f.flags); err != nil {
			return err
		}
	}
	if f.modSeq != 0 {
		return s.registry.state(uid, f.modSeq, f.flags)
	}
	return nil
}

// learn notes that the message at position i has this UID.
func (s *session) learn(i int, uid uint32) error {
	if s.view[i] == uid {
		return nil
	}
	if s.view[i] != 0 {
		return fmt.Errorf("message %d has UID %d for this session", i+1, s.view[i])
	}
	for j, other := range s.view {
		if other != 0 && (j < i && other >= uid || j > i && other <= uid) {
			return fmt.Errorf("UID %d at %d is not between its neighbours: %v", uid, i+1, s.view)
		}
	}
	s.view[i] = uid
	return nil
}

// resolve asks for the UIDs of messages that have none yet.
func (s *session) resolve() error {
	for range 5 {
		i := slices.Index(s.view, 0)
		if !s.selected || s.idling || i < 0 {
			return nil
		}
		gone := s.gone
		if _, err := s.command(fmt.Sprintf("FETCH %d:%d (UID)", i+1, len(s.view)), false, nil); err != nil {
			return err
		}
		s.gone = gone
	}
	return nil
}

// start forgets everything, for a new selection.
func (s *session) start(readOnly bool) {
	s.selections++
	s.id = fmt.Sprintf("%s%d.%p", s.name, s.selections, s.c)
	s.selected, s.readOnly = true, readOnly
	s.view, s.highest = nil, 0
	s.told, s.modSeqs = map[uint32]string{}, map[uint32]uint64{}
}

// stop leaves the mailbox; what was known is kept for QRESYNC.
func (s *session) stop() {
	if s.selected && s.qresync && s.highest > 0 && !slices.Contains(s.view, 0) {
		s.saved = &savedView{s.highest, slices.Clone(s.view), maps.Clone(s.told)}
	}
	s.selected, s.view = false, nil
}

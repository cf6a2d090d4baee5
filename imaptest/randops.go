package imaptest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// do runs one random command and looks at everything that must hold after it.
func (w *world) do(ctx context.Context, op randomOp) error {
	s := w.sessions[op.session]
	if s.idling {
		if err := w.endIdle(s); err != nil || op.kind == randIdle {
			return err
		}
	}
	if err := w.perform(ctx, s, op); err != nil {
		return err
	}
	s = w.sessions[op.session] // a restart or reconnect makes a new one
	if err := w.settled(s); err != nil {
		return err
	}
	for _, other := range w.sessions {
		if other.idling {
			if err := w.settleIdle(other); err != nil {
				return fmt.Errorf("session %s within IDLE: %w", other.name, err)
			}
		}
	}
	return nil
}

// settled checks a session after its command.
func (w *world) settled(s *session) error {
	if err := s.resolve(); err != nil {
		return err
	}
	for _, uid := range s.gone {
		if w.truth.isAlive(uid) {
			return fmt.Errorf("session %s was told that UID %d is gone, which it is not", s.name, uid)
		}
	}
	s.gone = nil
	return nil
}

func (w *world) perform(ctx context.Context, s *session, op randomOp) error {
	switch op.kind {
	case randAppend:
		return w.append(s, op)
	case randReconnect:
		s.stop()
		if err := s.c.close(); err != nil {
			return err
		}
		return w.open(ctx, op.session)
	case randRestart:
		return w.restart(ctx)
	case randFault:
		return w.fault(ctx, s, op)
	case randSelect:
		return w.selectInbox(s, op, false)
	case randExamine:
		return w.selectInbox(s, op, true)
	}
	if !s.selected {
		return w.selectInbox(s, op, op.a%4 == 0)
	}
	switch op.kind {
	case randNoop:
		return w.noop(s)
	case randCheck:
		return w.check(s)
	case randIdle:
		return w.idle(s)
	case randClose:
		return w.close(s)
	case randUnselect:
		_, err := w.ok(s, "UNSELECT", true, nil)
		s.stop()
		return err
	case randExpunge:
		return w.expunge(s, "EXPUNGE", slices.Clone(s.view))
	}
	if len(s.view) == 0 {
		return w.noop(s)
	}
	return w.performOnMessages(s, op)
}

func (w *world) performOnMessages(s *session, op randomOp) error {
	seqs := choose(s.view, op)
	uids := make([]uint32, len(seqs))
	for i, seq := range seqs {
		uids[i] = s.view[seq-1]
	}
	switch op.kind {
	case randStore:
		return w.store(s, "STORE "+set(seqs), uids, op)
	case randUIDStore:
		return w.store(s, "UID STORE "+set(uids), uids, op)
	case randUnchangedSince:
		return w.storeUnchanged(s, uids, op)
	case randUIDExpunge:
		return w.expunge(s, "UID EXPUNGE "+set(uids), uids)
	case randMove:
		return w.move(s, "MOVE "+set(seqs)+" Other", uids)
	case randUIDMove:
		return w.move(s, "UID MOVE "+set(uids)+" Other", uids)
	case randCopy:
		return w.copy(s, "COPY "+set(seqs)+" INBOX", uids)
	case randFetchFlags:
		return w.fetch(s, "FETCH "+set(seqs)+" (UID FLAGS)", uids, false, false)
	case randUIDFetch:
		return w.fetch(s, "UID FETCH "+set(uids)+" (FLAGS)", uids, true, false)
	case randFetchBody:
		if op.c%4 == 0 {
			return w.fetch(s, "FETCH "+set(seqs)+" (UID BODY[])", uids, false, true)
		}
		return w.fetch(s, "FETCH "+set(seqs)+" (UID BODY.PEEK[])", uids, false, false)
	case randSearch:
		return w.search(s, "SEARCH "+searchKey(op, seqs), false)
	default:
		return w.search(s, "UID SEARCH "+searchKey(op, seqs), true)
	}
}

// choose picks sequence numbers: one, a range, some, or all.
func choose(view []uint32, op randomOp) []uint32 {
	n := uint32(len(view))
	first, second := op.a%n+1, op.b%n+1
	var seqs []uint32
	for seq := uint32(1); seq <= n; seq++ {
		pick := false
		switch op.c % 8 {
		case 0, 1, 2:
			pick = seq == first
		case 3, 4:
			pick = seq >= min(first, second) && seq <= max(first, second)
		case 5, 6:
			pick = seq == first || seq == second
		default:
			pick = true
		}
		if pick && view[seq-1] != 0 {
			seqs = append(seqs, seq)
		}
	}
	if len(seqs) == 0 {
		seqs = append(seqs, 1)
	}
	return seqs
}

// set writes ascending numbers as a sequence set.
func set(list []uint32) string {
	var b strings.Builder
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, list[i])
		if j > i {
			fmt.Fprintf(&b, ":%d", list[j])
		}
		i = j + 1
	}
	return b.String()
}

var randomFlags = [...]string{`\Seen`, `\Flagged`, `\Deleted`, `\Answered`, `\Draft`, "$Work", "$Junk"}

// someFlags are those whose bits are set.
func someFlags(bits uint32) []string {
	var list []string
	for i, f := range randomFlags {
		if bits>>i&1 == 1 {
			list = append(list, f)
		}
	}
	return list
}

func searchKey(op randomOp, seqs []uint32) string {
	keys := []string{"ALL", "UNSEEN", "DELETED", "KEYWORD $Work", "NOT FLAGGED", set(seqs), "OR SEEN DRAFT", "UNDELETED"}
	return keys[op.b%uint32(len(keys))]
}

// ok runs a command that must succeed.
func (w *world) ok(s *session, text string, mayExpunge bool, each func(*response) error) (*response, error) {
	r, err := s.command(text, mayExpunge, each)
	if err == nil && r.status != "OK" {
		err = fmt.Errorf("%s: %s", text, r.raw)
	}
	return r, err
}

// codeNumbers reads the arguments of a response code that are sets of numbers.
func codeNumbers(r *response, name string) (sets [][]uint64) {
	if len(r.code) == 0 || !isWord(r.code[0], name) {
		return nil
	}
	for _, n := range r.code[1:] {
		list, ok := numbers(n.text)
		if !ok {
			return nil
		}
		sets = append(sets, list)
	}
	return sets
}

func (w *world) append(s *session, op randomOp) error {
	w.serial++
	body := fmt.Sprintf("Subject: random %d\r\nMessage-ID: <%d@example.org>\r\n\r\nThis is number %d.\r\n", w.serial, w.serial, w.serial)
	flags := someFlags(op.a & op.b)
	text := fmt.Sprintf("APPEND INBOX (%s) {%q}", strings.Join(flags, " "), body)
	r, err := w.ok(s, text, true, nil)
	if err != nil {
		return err
	}
	sets := codeNumbers(r, "APPENDUID")
	if len(sets) != 2 || len(sets[0]) != 1 || len(sets[1]) != 1 {
		return fmt.Errorf("APPEND wants APPENDUID: %s", r.raw)
	}
	if err := w.truth.validity(strconv.FormatUint(sets[0][0], 10)); err != nil {
		return err
	}
	uid := uint32(sets[1][0])
	if err := w.truth.add(uid, changed("FLAGS", "", flags)); err != nil {
		return err
	}
	return w.truth.body(uid, body)
}

// store runs STORE or UID STORE. A message that is gone may make it NO
// (RFC 2180 section 4.2); what became of the others is then looked up.
func (w *world) store(s *session, text string, uids []uint32, op randomOp) error {
	item := []string{"FLAGS", "+FLAGS", "-FLAGS"}[op.b%3]
	silent := op.a%4 == 0
	flags := someFlags(op.a >> 8 & (op.b >> 4))
	suffix := ""
	if silent {
		suffix = ".SILENT"
	}
	text += fmt.Sprintf(" %s%s (%s)", item, suffix, strings.Join(flags, " "))
	alive, ghosts := w.living(uids)
	for _, uid := range uids {
		w.truth.may(uid, changed(item, w.truth.flags[uid], flags))
	}
	byUID := strings.HasPrefix(text, "UID")
	r, err := s.command(text, byUID, nil)
	switch {
	case err != nil:
		return err
	case s.readOnly && r.status != "BAD":
		return nil // an OK that changes nothing is no great lie
	case r.status == "OK":
		return w.stored(s, alive, item, flags, silent)
	case r.status == "NO" && ghosts > 0 && !silent:
		return w.observe(alive)
	}
	return fmt.Errorf("%s: %s", text, r.raw)
}

// living parts messages into those that are there and those that are not.
func (w *world) living(uids []uint32) (alive []uint32, ghosts int) {
	for _, uid := range uids {
		if w.truth.isAlive(uid) {
			alive = append(alive, uid)
		} else {
			ghosts++
		}
	}
	return alive, ghosts
}

func (w *world) stored(s *session, uids []uint32, item string, flags []string, silent bool) error {
	for _, uid := range uids {
		before := w.truth.flags[uid]
		w.truth.set(uid, changed(item, before, flags))
		if silent {
			delete(s.told, uid)
			continue
		}
		if _, ok := s.fetched[uid]; !ok {
			if before == w.truth.flags[uid] {
				continue // nothing changed: the RFC wants an answer, many send none
			}
			return fmt.Errorf("STORE did not answer with the flags of UID %d", uid)
		}
		if s.told[uid] != w.truth.flags[uid] {
			return fmt.Errorf("UID %d has flags (%s) after STORE, not (%s)", uid, s.told[uid], w.truth.flags[uid])
		}
	}
	return nil
}

// storeUnchanged runs UID STORE (UNCHANGEDSINCE n): what is named in MODIFIED
// keeps its flags.
func (w *world) storeUnchanged(s *session, uids []uint32, op randomOp) error {
	if !w.have["CONDSTORE"] || s.readOnly || s.modSeqs[uids[0]] == 0 {
		return w.store(s, "UID STORE "+set(uids), uids, op)
	}
	flags := someFlags(op.a >> 8 & (op.b >> 4))
	alive, _ := w.living(uids)
	for _, uid := range uids {
		w.truth.may(uid, changed("+FLAGS", w.truth.flags[uid], flags))
	}
	text := fmt.Sprintf("UID STORE %s (UNCHANGEDSINCE %d) +FLAGS (%s)", set(uids), s.modSeqs[uids[0]], strings.Join(flags, " "))
	r, err := s.command(text, true, nil)
	if err != nil {
		return err
	}
	s.condstore = true
	modified := map[uint32]bool{}
	if sets := codeNumbers(r, "MODIFIED"); len(sets) == 1 {
		for _, uid := range sets[0] {
			modified[uint32(uid)] = true
		}
	}
	if r.status != "OK" {
		return w.observe(alive)
	}
	var done []uint32
	for _, uid := range alive {
		if !modified[uid] {
			done = append(done, uid)
		}
	}
	return w.stored(s, done, "+FLAGS", flags, false)
}

// expunge runs EXPUNGE or UID EXPUNGE on the messages of uids. Those that the
// session has not been told of may go or stay.
func (w *world) expunge(s *session, text string, uids []uint32) error {
	r, err := s.command(text, true, nil)
	if err != nil {
		return err
	}
	if s.readOnly && r.status != "BAD" {
		return nil // an OK that does nothing is no great lie
	}
	if r.status != "OK" {
		return fmt.Errorf("%s: %s", text, r.raw)
	}
	for _, uid := range w.deleted(uids) {
		w.truth.kill(uid)
		if slices.Contains(s.view, uid) {
			return fmt.Errorf("%s did not tell that UID %d is gone", text, uid)
		}
	}
	if text == "EXPUNGE" {
		return w.observe(w.deleted(w.truth.alive))
	}
	return nil
}

// deleted are those that have \Deleted.
func (w *world) deleted(uids []uint32) []uint32 {
	var list []uint32
	for _, uid := range uids {
		if w.truth.isAlive(uid) && hasFlag(w.truth.flags[uid], `\deleted`) {
			list = append(list, uid)
		}
	}
	return list
}

func (w *world) close(s *session) error {
	if _, err := w.ok(s, "CLOSE", false, nil); err != nil {
		return err
	}
	if !s.readOnly {
		for _, uid := range w.deleted(slices.Clone(s.view)) {
			w.truth.kill(uid)
		}
		if err := w.observe(w.deleted(w.truth.alive)); err != nil {
			return err
		}
	}
	s.stop()
	return nil
}

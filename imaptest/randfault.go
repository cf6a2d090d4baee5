package imaptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// errUnavailable is a command that was answered NO [UNAVAILABLE] while the
// storage failed.
var errUnavailable = errors.New("NO [UNAVAILABLE]")

// A fault is a storage that fails, during one command.
type fault struct{ heal func() error }

// end heals the storage when the command's answer has come.
func (f *fault) end(r *response) error {
	if err := f.heal(); err != nil {
		return fmt.Errorf("healing: %w", err)
	}
	if r.status == "NO" && len(r.code) > 0 && isWord(r.code[0], "UNAVAILABLE") {
		return errUnavailable
	}
	return nil
}

// faulty are the commands that are given to a storage that fails.
var faulty = [...]opKind{
	randAppend, randAppend, randStore, randUIDStore, randUnchangedSince, randExpunge, randUIDExpunge,
	randMove, randUIDMove, randCopy, randFetchBody, randFetchFlags, randSearch, randNoop,
}

// fault runs a command while the storage fails. It must succeed in spite of
// that, or be answered NO [UNAVAILABLE]; then what is there is looked up, and
// the command must have happened as a whole or not at all.
func (w *world) fault(ctx context.Context, s *session, op randomOp) error {
	if !w.options.Faults || w.server.Fail == nil {
		return nil
	}
	op.kind = faulty[op.a%uint32(len(faulty))]
	if op.kind != randAppend && (!s.selected || len(s.view) == 0) {
		return nil
	}
	alive, doomed := slices.Clone(w.truth.alive), w.deleted(w.truth.alive)
	heal, healed := w.server.Fail(op.b), false
	s.fault = &fault{heal: func() error {
		healed, s.fault = true, nil
		return heal(ctx)
	}}
	w.log("(the storage fails: %d)", op.b)
	err := w.perform(ctx, s, op)
	if !healed { // no command was needed
		s.fault = nil
		return errors.Join(err, heal(ctx))
	}
	if !errors.Is(err, errUnavailable) {
		return err
	}
	w.log("(the storage is healed)")
	came, gone, err := w.learn(alive)
	if err != nil {
		return err
	}
	mayCome := op.kind == randAppend || op.kind == randCopy || op.kind == randMove || op.kind == randUIDMove
	mayGo := op.kind == randExpunge || op.kind == randUIDExpunge || op.kind == randMove || op.kind == randUIDMove
	switch {
	case came > 0 && !mayCome, op.kind == randAppend && came > 1:
		return fmt.Errorf("%d messages came by a failed command that brings none, or fewer", came)
	case len(gone) > 0 && !mayGo:
		return fmt.Errorf("UIDs %v are gone by a failed command that takes none away", gone)
	case op.kind == randExpunge && len(gone) > 0 && len(gone) != len(doomed):
		return fmt.Errorf("a failed EXPUNGE took %v away, of %v", gone, doomed)
	}
	return nil
}

// learn looks up what is there, tells the truth, and returns what is new and
// what has gone. Flags must be some that a message may have.
func (w *world) learn(alive []uint32) (came int, gone []uint32, err error) {
	if err := w.observe(alive); err != nil {
		return 0, nil, err
	}
	for _, uid := range alive {
		if !w.truth.isAlive(uid) {
			gone = append(gone, uid)
		}
	}
	if _, err := w.observer.c.simple("EXAMINE INBOX", nil); err != nil {
		return 0, nil, err
	}
	list, err := w.observer.c.simple(fmt.Sprintf("UID FETCH %d:* (FLAGS BODY.PEEK[])", w.truth.lastUID+1), nil)
	if err != nil {
		return 0, nil, err
	}
	for _, r := range list {
		if len(r.nodes) != 3 || !isWord(r.nodes[1], "FETCH") {
			continue
		}
		f, err := parseFetch(r)
		if err != nil {
			return 0, nil, err
		}
		if f.uid <= w.truth.lastUID {
			continue // "*" is the last message, however small its UID
		}
		if err := errors.Join(w.truth.add(f.uid, f.flags), w.truth.body(f.uid, f.body)); err != nil {
			return 0, nil, err
		}
		came++
	}
	return came, gone, nil
}

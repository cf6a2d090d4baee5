package imapmodel

import (
	"context"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
)

// session is a mailbox as one session sees it.
type session struct {
	bx       *box
	selected string // the name that the model's hooks were told

	// Messages that had been expunged by then this session does not read any
	// more; guarded by bx.mu, as is closed.
	released imap.ModSeq
	closed   bool

	command int   // of the connection, counted from 1, that asked last
	begun   int64 // box.looks when it did so first
}

var (
	_ imapserver.Mailbox = (*session)(nil)
	_ imapserver.Poller  = (*session)(nil)
)

// open adds a session, for a command that began when begun looks had been made.
func (bx *box) open(ctx context.Context, selected string, begun int64) *session {
	s := &session{bx: bx, selected: selected, command: commandOf(ctx), begun: begun}
	bx.mu.Lock()
	defer bx.mu.Unlock()
	s.released = bx.snap.Load().HighestModSeq()
	bx.sessions[s] = struct{}{}
	return s
}

func (s *session) Snapshot(ctx context.Context) (*mailindex.Snapshot, error) {
	bx := s.bx
	if !bx.gone.Load() && !bx.dirty.Load() && !bx.acct.dirty.Load() && s.looked(ctx) {
		return bx.snap.Load(), nil
	}
	bx.acct.keepUp(ctx, bx)
	return bx.current(ctx)
}

// looked reports whether the model was looked at since the command began for
// which the session asks, so that a command looks but once where each of them
// looks.
func (s *session) looked(ctx context.Context) bool {
	bx := s.bx
	if bx.b.parts.watcher != nil || bx.b.opts.PollInterval > 0 {
		return false
	}
	command := commandOf(ctx)
	if command == 0 {
		return false
	}
	bx.mu.Lock()
	defer bx.mu.Unlock()
	if s.command != command {
		s.command, s.begun = command, bx.looks.Load()
	}
	return bx.seen.Load() > s.begun
}

// commandOf says which command of its connection ctx is of, counted from 1; 0
// where it is of none.
func commandOf(ctx context.Context) int {
	c := imapserver.ConnFrom(ctx)
	if c == nil {
		return 0
	}
	return c.Info().Commands + 1
}

// Poll implements imapserver.Poller.
func (s *session) Poll() {
	s.bx.acct.retry.reset()
	s.bx.acct.dirty.Store(true)
	s.bx.retry.reset()
	s.bx.dirty.Store(true)
}

func (s *session) ID() imap.ObjectID {
	if s.bx.b.state == nil {
		return ""
	}
	return s.bx.id
}

func (s *session) ReadOnly() bool {
	info, virtual := s.bx.describe()
	return info.ReadOnly || virtual || !s.bx.canSetFlags() && s.bx.b.parts.remover == nil
}

func (bx *box) canSetFlags() bool { return bx.b.parts.flagger != nil || bx.keepsFlags() }

// PermanentFlags are those that the mailbox allows. \Deleted is not among them
// where nothing can be removed.
func (s *session) PermanentFlags() (flags []imap.Flag, newKeywords bool) {
	info, virtual := s.bx.describe()
	if info.ReadOnly || virtual || !s.bx.canSetFlags() {
		return nil, false
	}
	if info.Flags == nil {
		flags = []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}
		flags = append(flags, s.bx.snap.Load().Keywords()...)
		newKeywords = true
	} else {
		newKeywords = HasFlag(info.Flags, imap.FlagAny)
		flags = slices.Clone(info.Flags)
	}
	flags = slices.DeleteFunc(flags, func(f imap.Flag) bool {
		return f == imap.FlagAny || imap.EqualFlag(f, imap.FlagRecent) ||
			s.bx.b.parts.remover == nil && imap.EqualFlag(f, imap.FlagDeleted)
	})
	return flags, newKeywords
}

func (s *session) Watch(wake func()) (stop func()) { return s.bx.watch(wake) }

func (s *session) ClaimRecent(ctx context.Context) (first, last imap.UID, err error) {
	bx := s.bx
	if err := bx.turn.acquire(ctx); err != nil {
		return 0, 0, err
	}
	defer bx.turn.release()
	snap := bx.snap.Load()
	first, last = snap.FirstRecent(), snap.UIDNext()-1
	if first > last {
		return first, last, nil
	}
	err = bx.apply(ctx, plan{meta: func(m *mailindex.Meta) { m.FirstRecent = last + 1 }})
	if err != nil {
		return 0, 0, err
	}
	return first, last, nil
}

func (s *session) Fetch(ctx context.Context, rows []mailindex.Row, need imapserver.Need, fn func(i int, m *imapserver.Message) error) error {
	return s.bx.fetch(ctx, rows, need, fn)
}

func (s *session) Expunged(_ context.Context, since imap.ModSeq) (uids imap.UIDSet, complete bool, err error) {
	s.bx.mu.Lock()
	defer s.bx.mu.Unlock()
	uids, complete = s.bx.history.Since(since)
	return uids, complete, nil
}

func (s *session) Release(upTo imap.ModSeq) {
	s.bx.mu.Lock()
	defer s.bx.mu.Unlock()
	if upTo > s.released {
		s.released = upTo
		s.bx.dropGhosts()
	}
}

// dropGhosts forgets the expunged messages that no session can see; mu is
// held.
func (bx *box) dropGhosts() {
	if len(bx.ghosts) == 0 {
		return
	}
	upTo := imap.MaxModSeq
	for s := range bx.sessions {
		upTo = min(upTo, s.released)
	}
	for uid, g := range bx.ghosts {
		if g.modseq <= upTo {
			delete(bx.ghosts, uid)
			bx.b.ghostBytes.Add(-int64(len(g.text)))
		}
	}
}

func (s *session) Close() error {
	s.bx.mu.Lock()
	if s.closed {
		s.bx.mu.Unlock()
		return nil
	}
	s.closed = true
	delete(s.bx.sessions, s)
	s.bx.dropGhosts()
	s.bx.mu.Unlock()
	if hook := s.bx.b.parts.selectHook; hook != nil {
		hook.Unselected(s.bx.acct.user, s.selected)
	}
	return nil
}

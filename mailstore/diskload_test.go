package mailstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
)

// Many sessions work on two accounts while the disk fails and heals, again and
// again, and the index opens itself again. Each session knows what was
// acknowledged; all of that is there, once and with its flags, at the end, after
// a restart and after a power cut.
func TestManyOnAFailingDisk(t *testing.T) {
	rounds := 15
	if full() {
		rounds = 150
	}
	fs := crashfs.New()
	d := openBusy(t, fs, mailstore.Options{TxnRows: 3, TxnBytes: 2000})
	keep, stop := context.WithCancel(ctx)
	kept := make(chan error, 1)
	go func() { kept <- d.kv.Keep(keep) }()

	accounts := map[string]*mailstore.Account{"ann": nil, "bob": nil}
	for name := range accounts {
		a, err := d.store.Account(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		accounts[name] = a
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	var sessions []*mailer
	for i := range 6 {
		name := []string{"ann", "bob"}[i%2]
		s := &mailer{t: t, a: accounts[name], user: name, id: i, is: make(map[string]state)}
		sessions = append(sessions, s)
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
					s.work()
				}
			}
		})
	}
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	for range rounds {
		time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		match := []func(errorfs.Op) bool{crashfs.Changes, crashfs.Syncs, reads}[rng.IntN(3)]
		err := []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE}[rng.IntN(3)]
		fs.Fail(crashfs.Nth(1+rng.IntN(50), 1<<rng.IntN(12), err, match))
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		fs.Fail(nil)
	}
	close(quit)
	wg.Wait()
	stop()
	if err := <-kept; err != nil {
		t.Errorf("seed %d: Keep: %v", seed, err)
	}
	must(t, d.kv.Reopen())
	for _, a := range accounts {
		heal(t, d, a)
	}
	done := 0
	for _, s := range sessions {
		done += s.done
	}
	t.Logf("seed %d: %d commands were acknowledged, %d refused", seed, done, refusals(sessions))
	verifySessions(t, d, sessions)
	clones := fs.Clones()
	d.close(t)
	for _, disk := range []*crashfs.FS{fs, clones[0].FS, clones[1].FS} {
		d := openBusy(t, disk, mailstore.Options{})
		verifySessions(t, d, sessions)
		d.close(t)
	}
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

// state is what a session knows of one of its messages.
type state struct {
	there, flagged bool
	sure           bool // a command that changes it has not failed
}

// mailer works on messages of its own in a shared INBOX.
type mailer struct {
	t             *testing.T
	a             *mailstore.Account
	user          string
	id, n         int
	done, refused int
	is            map[string]state // by subject
}

func refusals(list []*mailer) (n int) {
	for _, s := range list {
		n += s.refused
	}
	return n
}

// note counts an outcome, and reports whether it was an acknowledgement.
func (s *mailer) note(err error) bool {
	if err == nil {
		s.done++
		return true
	}
	if imap.KindOf(err) != imap.Unavailable {
		s.t.Errorf("a disk that fails gave %v", err)
	}
	s.refused++
	time.Sleep(time.Millisecond)
	return false
}

// work appends a message, flags it, and takes every third away again.
func (s *mailer) work() {
	subject := fmt.Sprintf("s%d-%d", s.id, s.n)
	s.n++
	u, err := s.a.Upload(ctx, -1)
	if err == nil {
		_, _ = u.Write([]byte(mail(subject))) // Append reports its error
		var res *mailstore.AppendResult
		if res, err = s.a.Append(ctx, imap.Inbox, []mailstore.AppendItem{{Upload: u}}); err == nil {
			s.is[subject] = state{there: true, sure: true}
			s.note(nil)
			s.change(subject, imap.UIDSetOf(res.UIDs[0]))
			return
		}
	}
	s.is[subject] = state{}
	s.note(err)
}

func (s *mailer) change(subject string, uids imap.UIDSet) {
	m, err := s.a.Mailbox(ctx, imap.Inbox)
	if err != nil {
		s.note(err)
		return
	}
	defer m.Close()
	_, err = m.Store(ctx, &mailstore.StoreRequest{UIDs: uids, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagFlagged, imap.FlagDeleted}})
	if !s.note(err) {
		s.is[subject] = state{there: true, sure: false}
		return
	}
	s.is[subject] = state{there: true, flagged: true, sure: true}
	if s.n%3 == 0 {
		err := m.Expunge(ctx, &uids)
		s.is[subject] = state{there: err != nil, flagged: true, sure: s.note(err)}
	}
}

// verifySessions compares the store with what the sessions know.
func verifySessions(t *testing.T, d *disk, sessions []*mailer) {
	t.Helper()
	check(t, d.store)
	for _, user := range []string{"ann", "bob"} {
		a, err := d.store.Account(ctx, user)
		if err != nil {
			t.Fatal(err)
		}
		m := open(t, a, imap.Inbox)
		snap := snapshot(t, m)
		rows := allRows(snap)
		found := make(map[string]bool) // whether it is flagged
		for i, text := range bodies(t, m, rows) {
			_, rest, _ := strings.Cut(text, "Subject: ")
			subject, _, ok := strings.Cut(rest, "\r\n")
			if _, twice := found[subject]; !ok || twice {
				t.Errorf("%s: message %q is not whole, or there twice", user, text)
			}
			found[subject] = strings.Contains(string(snap.Flags(rows[i].Flags).Wire()), `\Flagged`)
		}
		m.Close()
		for _, s := range sessions {
			if s.user != user {
				continue
			}
			for subject, want := range s.is {
				flagged, there := found[subject]
				delete(found, subject)
				if want.sure && (there != want.there || there && flagged != want.flagged) {
					t.Errorf("%s: %s: there %v, flagged %v; acknowledged was %+v", user, subject, there, flagged, want)
				}
				// Unsure of its flags, or of its end: it may be gone only if
				// that was asked for.
				if !want.sure && want.there && !want.flagged && !there {
					t.Errorf("%s: %s was acknowledged and is lost", user, subject)
				}
			}
		}
		for subject := range found {
			t.Errorf("%s: %s is there, and nobody has sent it", user, subject)
		}
	}
}

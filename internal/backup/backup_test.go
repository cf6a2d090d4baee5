package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/backup"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/datadir"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// folder is an open data folder with small segments, so that there are many
// and space is taken back all the time.
type folder struct {
	dir   *datadir.Dir
	kv    *pebblekv.KV
	blobs *bloblog.Store
	mail  *mailstore.Store
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *folder {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	f := &folder{}
	var err error
	f.dir, err = datadir.Open(nil, path)
	must(t, err)
	f.blobs, err = bloblog.Open(f.dir.Join("messages"), bloblog.Options{Logger: log, SegmentBytes: 64 << 10, MaxWaste: 0.2})
	must(t, err)
	f.kv, err = pebblekv.Open(f.dir.Join("index"), pebblekv.Options{Logger: log, MemTableBytes: 128 << 10, Blobs: f.blobs})
	must(t, err)
	f.mail, err = mailstore.Open(context.Background(), f.kv, f.kv.Blobs(), mailstore.Options{Logger: log})
	must(t, err)
	return f
}

func (f *folder) close(t *testing.T) {
	t.Helper()
	must(t, errors.Join(f.mail.Close(context.Background()), f.kv.Close(), f.blobs.Close(), f.dir.Close()))
}

func (f *folder) source() backup.Source {
	return backup.Source{Dir: f.dir.Join(), Format: f.dir.Format(), Version: "test", KV: f.kv, Blobs: f.blobs}
}

func (f *folder) append(user, subject string, size int) (imap.UID, error) {
	ctx := context.Background()
	a, err := f.mail.Account(ctx, user)
	if err != nil {
		return 0, err
	}
	text := "Subject: " + subject + "\r\n\r\n" + strings.Repeat("x", size)
	u, err := a.Upload(ctx, int64(len(text)))
	if err != nil {
		return 0, err
	}
	if _, err := io.WriteString(u, text); err != nil {
		u.Discard()
		return 0, err
	}
	res, err := a.Append(ctx, "INBOX", []mailstore.AppendItem{{Upload: u}})
	if err != nil {
		return 0, err
	}
	return res.UIDs[0], nil
}

func (f *folder) expunge(user string, uid imap.UID) error {
	ctx := context.Background()
	a, err := f.mail.Account(ctx, user)
	if err != nil {
		return err
	}
	m, err := a.Mailbox(ctx, "INBOX")
	if err != nil {
		return err
	}
	defer m.Close()
	set := imap.UIDSetOf(uid)
	if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: set, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		return err
	}
	return m.Expunge(ctx, &set)
}

// uids returns the UIDs of a user's INBOX.
func (f *folder) uids(t *testing.T, user string) map[imap.UID]bool {
	t.Helper()
	ctx := context.Background()
	a, err := f.mail.Lookup(ctx, user)
	must(t, err)
	m, err := a.Mailbox(ctx, "INBOX")
	must(t, err)
	defer m.Close()
	snap, err := m.Snapshot(ctx)
	must(t, err)
	uids := make(map[imap.UID]bool)
	for _, row := range snap.Rows() {
		uids[row.UID] = true
	}
	return uids
}

// verify checks a folder with all its messages.
func (f *folder) verify(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	res, err := f.mail.Verify(ctx, mailstore.VerifyOptions{})
	must(t, err)
	for _, d := range res.Defects {
		t.Errorf("check: %s", d)
	}
	must(t, f.blobs.Verify(ctx, true, func(d bloblog.Damage) { t.Errorf("damage: %+v", d) }))
	must(t, f.kv.Verify(ctx, func(d pebblekv.Damage) { t.Errorf("damage: %+v", d) }))
}

// load appends and expunges until it is stopped, and knows what was
// acknowledged.
type load struct {
	mu   sync.Mutex
	kept map[string]map[imap.UID]bool // appended, and nobody has asked to expunge it
	gone map[string]map[imap.UID]bool // the expunge was acknowledged
	stop chan struct{}
	wg   sync.WaitGroup
	errs []error
}

func startLoad(f *folder, users int) *load {
	l := &load{kept: make(map[string]map[imap.UID]bool), gone: make(map[string]map[imap.UID]bool), stop: make(chan struct{})}
	for n := range users {
		user := fmt.Sprintf("user%d", n)
		l.kept[user], l.gone[user] = make(map[imap.UID]bool), make(map[imap.UID]bool)
		l.wg.Go(func() { l.run(f, user) })
	}
	return l
}

func (l *load) run(f *folder, user string) {
	var mine []imap.UID
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		default:
		}
		size := 500 + i%7*300
		if i%50 == 49 {
			size = 400_000 // a lane of its own
		}
		uid, err := f.append(user, fmt.Sprint(user, i), size)
		if err == nil {
			l.mu.Lock()
			l.kept[user][uid] = true
			l.mu.Unlock()
			mine = append(mine, uid)
		}
		if err == nil && i%3 > 0 && len(mine) > 5 {
			victim := mine[len(mine)/2]
			mine = append(mine[:len(mine)/2], mine[len(mine)/2+1:]...)
			l.mu.Lock()
			delete(l.kept[user], victim)
			l.mu.Unlock()
			if err = f.expunge(user, victim); err == nil {
				l.mu.Lock()
				l.gone[user][victim] = true
				l.mu.Unlock()
			}
		}
		if err != nil {
			l.mu.Lock()
			l.errs = append(l.errs, err)
			l.mu.Unlock()
			return
		}
	}
}

// acknowledged returns copies of what is known so far.
func (l *load) acknowledged() (kept, gone map[string]map[imap.UID]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clone := func(m map[string]map[imap.UID]bool) map[string]map[imap.UID]bool {
		c := make(map[string]map[imap.UID]bool)
		for user, uids := range m {
			c[user] = make(map[imap.UID]bool)
			for uid := range uids {
				c[user][uid] = true
			}
		}
		return c
	}
	return clone(l.kept), clone(l.gone)
}

// TestUnderLoad makes backups while users append and expunge, and segments come
// and go. Each backup is whole: it has what was acknowledged before it began,
// but for what was expunged since, and nothing that was expunged before.
func TestUnderLoad(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	ctx := context.Background()
	base := t.TempDir()
	f := open(t, filepath.Join(base, "data"))
	l := startLoad(f, 4)
	previous := ""
	for round := range rounds {
		for l.count() < 200*(round+1) { // something happens between the backups
			if len(l.failed()) > 0 {
				t.Fatal(l.failed())
			}
			time.Sleep(5 * time.Millisecond)
		}
		kept, gone := l.acknowledged()
		dir := filepath.Join(base, fmt.Sprint("backup", round))
		opts := backup.Options{Copy: round%2 == 1}
		if round > 1 {
			opts.Previous = previous
		}
		res, err := backup.Write(ctx, f.source(), dir, opts)
		must(t, err)
		previous = dir
		still, _ := l.acknowledged() // what was asked to go meanwhile may be gone
		m, err := backup.Read(dir)
		must(t, err)
		if problems, err := backup.Verify(ctx, dir, m, nil); err != nil || len(problems) > 0 {
			t.Fatalf("round %d: %v, %v", round, problems, err)
		}
		restored := filepath.Join(base, fmt.Sprint("restored", round))
		must(t, backup.Restore(ctx, dir, m, restored, nil, nil))
		c := open(t, restored)
		for user := range kept {
			has := c.uids(t, user)
			for uid := range kept[user] {
				if still[user][uid] && !has[uid] {
					t.Errorf("round %d: %s UID %d was acknowledged and is not in the backup", round, user, uid)
				}
			}
			for uid := range gone[user] {
				if has[uid] {
					t.Errorf("round %d: %s UID %d was expunged and is in the backup", round, user, uid)
				}
			}
		}
		c.verify(t)
		must(t, c.mail.Sweep(ctx)) // and what nobody needs can go
		c.verify(t)
		c.close(t)
		t.Logf("round %d: %d files, %d bytes, %d copied", round, res.Files, res.Bytes, res.Copied)
	}
	close(l.stop)
	l.wg.Wait()
	if errs := l.failed(); len(errs) > 0 {
		t.Error(errs)
	}
	f.verify(t)
	if st := f.blobs.Stats(); st.Rides == 0 {
		t.Errorf("the log has never ridden with the messages: %+v", st)
	}
	f.close(t)
}

// count is how many messages have come.
func (l *load) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for user := range l.kept {
		n += len(l.kept[user]) + len(l.gone[user])
	}
	return n
}

func (l *load) failed() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errs
}

// TestIncremental: what has not changed is linked, from the store or from the
// backup before.
func TestIncremental(t *testing.T) {
	ctx := context.Background()
	base := t.TempDir()
	f := open(t, filepath.Join(base, "data"))
	for i := range 300 {
		_, err := f.append("ann", fmt.Sprint(i), 1000)
		must(t, err)
	}
	must(t, f.kv.Settle(ctx)) // the log is on disk without the messages
	must(t, f.blobs.Tidy(ctx))
	write := func(name string, opts backup.Options) *backup.Result {
		t.Helper()
		res, err := backup.Write(ctx, f.source(), filepath.Join(base, name), opts)
		must(t, err)
		return res
	}
	copied := write("a", backup.Options{Copy: true})
	if copied.Copied != copied.Bytes || copied.Bytes < 300_000 {
		t.Errorf("with Copy: %+v", copied)
	}
	if res := write("b", backup.Options{}); res.Copied > 64<<10+2000 {
		t.Errorf("with links to the store: %+v", res)
	}
	_, err := f.append("ann", "one more", 1000)
	must(t, err)
	res := write("c", backup.Options{Copy: true, Previous: filepath.Join(base, "a")})
	a, err := os.Stat(filepath.Join(base, "a/messages/00000001.seg"))
	must(t, err)
	if a.Size() < 50_000 || res.Copied > res.Bytes-a.Size() {
		t.Errorf("with links to the backup before, which has %d bytes of messages: %+v", a.Size(), res)
	}
	c, err := os.Stat(filepath.Join(base, "c/messages/00000001.seg"))
	must(t, err)
	if !os.SameFile(a, c) {
		t.Error("the first segment was copied again")
	}
	// A segment of another store with the same number is another one.
	other := open(t, filepath.Join(base, "other"))
	for i := range 300 {
		_, err := other.append("ann", fmt.Sprint(i), 1000)
		must(t, err)
	}
	must(t, other.kv.Settle(ctx))
	must(t, other.blobs.Tidy(ctx))
	_, err = backup.Write(ctx, other.source(), filepath.Join(base, "d"), backup.Options{Copy: true, Previous: filepath.Join(base, "a")})
	must(t, err)
	d, err := os.Stat(filepath.Join(base, "d/messages/00000001.seg"))
	must(t, err)
	if os.SameFile(a, d) {
		t.Error("a segment of another store was taken")
	}
	other.close(t)
	f.close(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		m, err := backup.Read(filepath.Join(base, name))
		must(t, err)
		if problems, err := backup.Verify(ctx, filepath.Join(base, name), m, nil); err != nil || len(problems) > 0 {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
	}
}

// TestRottenPrevious: one bad sector does not go from backup to backup.
func TestRottenPrevious(t *testing.T) {
	ctx := context.Background()
	base := t.TempDir()
	f := open(t, filepath.Join(base, "data"))
	defer f.close(t)
	for i := range 150 {
		_, err := f.append("ann", fmt.Sprint(i), 1000)
		must(t, err)
	}
	must(t, f.kv.Settle(ctx)) // the log is on disk without the messages
	must(t, f.blobs.Tidy(ctx))
	const segment = "messages/00000001.seg"
	flip := func(dir string) {
		t.Helper()
		path := filepath.Join(base, dir, segment)
		p, err := os.ReadFile(path)
		must(t, err)
		p[len(p)/2] ^= 1
		must(t, os.WriteFile(path, p, 0o600)) // the same file, so whatever is linked to it
	}
	write := func(name string, opts backup.Options, wantNotes, wantDamaged, wantProblems int) {
		t.Helper()
		if opts.Previous != "" {
			opts.Previous = filepath.Join(base, opts.Previous)
		}
		res, err := backup.Write(ctx, f.source(), filepath.Join(base, name), opts)
		must(t, err)
		if len(res.Notes) != wantNotes || res.Damaged != wantDamaged {
			t.Errorf("%s: %d damaged, %q", name, res.Damaged, res.Notes)
		}
		m, err := backup.Read(filepath.Join(base, name))
		must(t, err)
		problems, err := backup.Verify(ctx, filepath.Join(base, name), m, nil)
		if err != nil || len(problems) != wantProblems {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
	}
	write("a", backup.Options{Copy: true}, 0, 0, 0)
	flip("a")
	write("b", backup.Options{Copy: true, Previous: "a"}, 1, 0, 0)                   // the store's, copied
	write("linked", backup.Options{Previous: "a"}, 0, 0, 0)                          // the store's, linked
	write("trusts", backup.Options{Copy: true, Previous: "a", Trust: true}, 0, 0, 1) // as asked for
	flip("data")
	write("c", backup.Options{Previous: "b"}, 1, 0, 0)             // that of b, and told
	write("d", backup.Options{Copy: true, Previous: "b"}, 0, 0, 0) // that of b; the store is not read
	write("e", backup.Options{Copy: true}, 1, 1, 0)                // as it is
	write("f", backup.Options{Copy: true, Previous: "e"}, 1, 1, 0) // told again
	write("g", backup.Options{Previous: "e"}, 1, 1, 0)
	write("h", backup.Options{Copy: true, Previous: "a"}, 2, 1, 0) // both are damaged
}

// TestWhatFails leaves nothing behind.
func TestWhatFails(t *testing.T) {
	base := t.TempDir()
	f := open(t, filepath.Join(base, "data"))
	defer f.close(t)
	_, err := f.append("ann", "one", 100)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := filepath.Join(base, "made/backup")
	if _, err := backup.Write(ctx, f.source(), dir, backup.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a backup that was interrupted: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it has left %s: %v", dir, err)
	}
	must(t, os.Mkdir(filepath.Join(base, "empty"), 0o755))
	if _, err := backup.Write(ctx, f.source(), filepath.Join(base, "empty"), backup.Options{}); err == nil {
		t.Error("a backup that was interrupted gave no error")
	}
	if names, err := os.ReadDir(filepath.Join(base, "empty")); err != nil || len(names) > 0 {
		t.Errorf("it has left %v: %v", names, err)
	}
	must(t, os.Symlink(filepath.Join(base, "data"), filepath.Join(base, "link")))
	if _, err := backup.Write(context.Background(), f.source(), filepath.Join(base, "link/b"), backup.Options{}); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a backup in the store: %v", err)
	}
	if _, err := backup.Write(context.Background(), f.source(), filepath.Join(base, "link/../data/FORMAT/b"), backup.Options{}); err == nil {
		t.Error("a backup below a file was written")
	} else if errors.Is(err, syscall.ENOTDIR) && !strings.Contains(err.Error(), "FORMAT") {
		t.Error(err)
	}
	if _, err := backup.Read(filepath.Join(base, "nowhere")); err == nil || !strings.Contains(err.Error(), "no folder") {
		t.Errorf("reading no folder: %v", err)
	}
	restoreFails(t, f, base)
	bad := filepath.Join(base, "bad")
	must(t, os.Mkdir(bad, 0o700))
	for text, want := range map[string]string{
		"{":                          "damaged",
		`{"manifest": 2}`:            "newer release",
		`{"manifest":1,"format":99}`: "newer release",
		`{"manifest":1,"format":1}`:  "no release has written",
		`{"manifest":1,"format":2,"files":[{"path":"../x","size":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`: "damaged",
	} {
		must(t, os.WriteFile(filepath.Join(bad, backup.ManifestName), []byte(text), 0o600))
		if _, err := backup.Read(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("manifest %s: %v", text, err)
		}
	}
}

// restoreFails breaks off a restore at its end.
func restoreFails(t *testing.T, f *folder, base string) {
	t.Helper()
	ctx := context.Background()
	from, to := filepath.Join(base, "good"), filepath.Join(base, "to")
	_, err := backup.Write(ctx, f.source(), from, backup.Options{})
	must(t, err)
	m, err := backup.Read(from)
	must(t, err)
	stopped := errors.New("stopped")
	err = backup.Restore(ctx, from, m, to, nil, func() error {
		if _, err := datadir.Open(nil, to); err == nil {
			t.Error("a server can have the folder before it is finished")
		}
		return stopped
	})
	if !errors.Is(err, stopped) {
		t.Errorf("a restore that was stopped: %v", err)
	}
	if _, err := os.Stat(to); !os.IsNotExist(err) {
		t.Errorf("it has left %s: %v", to, err)
	}
	must(t, backup.Restore(ctx, from, m, to, nil, nil))
	if err := backup.Restore(ctx, from, m, to, nil, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a restore over a store: %v", err)
	}
	c := open(t, to)
	c.verify(t)
	c.close(t)
}

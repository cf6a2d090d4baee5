package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/datadir"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// TestMemory measures the resident memory of the real server: with many
// accounts of which few are in use, after all of them have been used once, and
// for one large mailbox. ROOKERY_FULL makes it the sizes that are promised:
// 1,000,000 messages in 1,000 accounts, and 1,000,000 in one mailbox.
func TestMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the resident memory of another process is read from /proc")
	}
	accounts, each, large := 100, 50, 50_000
	if os.Getenv("ROOKERY_FULL") != "" {
		accounts, each, large = 1000, 1000, 1_000_000
	}
	dir := t.TempDir()
	k := &killing{t: t, binary: filepath.Join(dir, "rookery"), data: filepath.Join(dir, "data"), users: filepath.Join(dir, "users")}
	k.build()
	began := time.Now()
	fillStore(t, k.data, accounts, each, large)
	t.Logf("%d messages in %d accounts, and %d in one mailbox, were written in %v", accounts*each, accounts, large, time.Since(began).Round(time.Second))
	var users strings.Builder
	users.WriteString("large:{PLAIN}x\n")
	for i := range accounts {
		fmt.Fprintf(&users, "%s:{PLAIN}x\n", manyUser(i))
	}
	if err := os.WriteFile(k.users, []byte(users.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	k.start()
	defer k.kill()
	idle := k.resident()
	t.Logf("after the start: %d MB", idle>>20)

	var open []*imapConn // few are in use all the time
	for i := range 20 {
		open = append(open, k.visit(manyUser(i), each))
	}
	few := k.resident()
	t.Logf("with 20 accounts in use: %d MB", few>>20)
	for i := range accounts {
		k.visit(manyUser(i), each).Close()
	}
	used := k.resident()
	t.Logf("after all %d were used: %d MB", accounts, used>>20)
	// The promise is for few accounts in use. When all have been looked into, one
	// after the other, there is more garbage than that at times.
	for name, m := range map[string]struct{ now, most int64 }{
		"with few accounts in use": {few, 200 << 20}, "after all were used": {used, 300 << 20},
	} {
		if m.now > m.most {
			t.Errorf("%d MB of memory %s", m.now>>20, name)
		}
	}
	for _, c := range open {
		c.Close()
	}

	// Ended in order: after a kill a sweep of all accounts would run beside.
	if err := k.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = k.cmd.Wait()
	k.start()
	c := k.login("large")
	defer c.Close()
	k.run(c, "NOOP")
	before := k.resident()
	began = time.Now()
	answer := k.run(c, "SELECT INBOX")
	took := time.Since(began)
	grown := k.resident() - before
	t.Logf("SELECT of %d messages: %v, %d MB", large, took.Round(time.Millisecond), grown>>20)
	if !strings.Contains(answer, fmt.Sprintf("* %d EXISTS", large)) {
		t.Errorf("SELECT: %s", answer)
	}
	if grown > 60<<20 {
		t.Errorf("a mailbox of %d messages costs %d MB", large, grown>>20)
	}
}

func manyUser(i int) string { return fmt.Sprintf("user%04d", i) }

// visit looks into a user's INBOX as a mail program does.
func (k *killing) visit(user string, messages int) *imapConn {
	k.t.Helper()
	c := k.login(user)
	if answer := k.run(c, "SELECT INBOX"); !strings.Contains(answer, fmt.Sprintf("* %d EXISTS", messages)) {
		k.t.Fatalf("SELECT of %s: %s", user, answer)
	}
	k.run(c, "FETCH 1:* (UID FLAGS)")
	k.run(c, fmt.Sprintf("FETCH %d:* (ENVELOPE BODYSTRUCTURE)", max(messages-20, 1)))
	k.run(c, "FETCH * (BODY.PEEK[])")
	return c
}

func (k *killing) login(user string) *imapConn {
	k.t.Helper()
	c, err := dialIMAP(k.imaps)
	if err != nil {
		k.t.Fatal(err)
	}
	k.run(c, "LOGIN "+user+" x")
	return c
}

func (k *killing) run(c *imapConn, command string) string {
	k.t.Helper()
	answer, status, err := c.do(command)
	if err != nil || !strings.HasPrefix(status, "OK") {
		k.t.Fatalf("%s: %s, %v", command, status, err)
	}
	return answer
}

// resident is the server's resident memory in bytes.
func (k *killing) resident() int64 {
	k.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", k.cmd.Process.Pid))
	if err != nil {
		k.t.Fatal(err)
	}
	pages, err := strconv.ParseInt(string(bytes.Fields(data)[1]), 10, 64)
	if err != nil {
		k.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// fillStore makes a data folder as the server leaves one. It is not killed
// meanwhile, so it need not sync each message.
func fillStore(t *testing.T, path string, accounts, each, large int) {
	t.Helper()
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	dir, err := datadir.Open(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := bloblog.Open(dir.Join("messages"), bloblog.Options{FS: dir.FS(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := pebblekv.Open(dir.Join("index"), pebblekv.Options{FS: dir.FS(), Logger: log, Relaxed: time.Second, Blobs: blobs})
	if err != nil {
		t.Fatal(err)
	}
	store, err := mailstore.Open(ctx, kv, kv.Blobs(), mailstore.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, close := range []func() error{func() error { return store.Close(ctx) }, kv.Close, blobs.Close, dir.Close} {
			if err := close(); err != nil {
				t.Error(err)
			}
		}
	}()
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				if err := fillAccount(ctx, store, manyUser(i), each); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range accounts {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := fillLarge(ctx, store, large); err != nil {
		t.Fatal(err)
	}
}

func fillAccount(ctx context.Context, store *mailstore.Store, user string, n int) error {
	a, err := store.Account(ctx, user)
	if err != nil {
		return err
	}
	for _, name := range []string{"Sent", "Drafts", "Trash", "Junk"} {
		if _, err := a.Create(ctx, name, nil); err != nil {
			return err
		}
	}
	items := make([]mailstore.AppendItem, n)
	for i := range items {
		u, err := a.Upload(ctx, -1)
		if err != nil {
			return err
		}
		fmt.Fprintf(u, "From: Somebody <s%d@example.org>\r\nTo: %s@example.net\r\nSubject: message %d\r\nMessage-ID: <%d.%s@example.org>\r\n"+
			"Date: Mon, 2 Jan 2023 15:04:05 +0000\r\n\r\nHello, this is number %d.\r\n", i%70, user, i, i, user, i)
		items[i] = mailstore.AppendItem{Upload: u, Date: imap.MakeTime(1.6e9+int64(i)*600, 60)}
		if i%3 > 0 {
			items[i].Flags = []imap.Flag{imap.FlagSeen}
		}
	}
	_, err = a.Append(ctx, imap.Inbox, items)
	return err
}

// fillLarge makes one large mailbox out of copies of 1,000 messages.
func fillLarge(ctx context.Context, store *mailstore.Store, n int) error {
	if err := fillAccount(ctx, store, "large", 1000); err != nil {
		return err
	}
	a, err := store.Account(ctx, "large")
	if err != nil {
		return err
	}
	m, err := a.Mailbox(ctx, imap.Inbox)
	if err != nil {
		return err
	}
	defer m.Close()
	for have := 1000; have < n; {
		more := min(have, n-have)
		if _, err := m.Copy(ctx, imap.UIDSetOfRange(1, imap.UID(more)), imap.Inbox); err != nil {
			return err
		}
		have += more
	}
	return nil
}

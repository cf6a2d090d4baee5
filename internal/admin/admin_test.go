package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/mailimport"
)

// desk is a Service that remembers what it was asked.
type desk struct {
	calls []string
	mail  []string
	fail  error
}

func (d *desk) Numbers(context.Context) ([]admin.Number, error) {
	return []admin.Number{{Name: "rookery_things", Labels: []string{"a=b"}, Value: 3, Help: "Things."}}, nil
}

func (d *desk) say(format string, args ...any) error {
	d.calls = append(d.calls, fmt.Sprintf(format, args...))
	return d.fail
}

func (d *desk) Status(context.Context) (admin.Status, error) {
	return admin.Status{Version: "v1", PID: 7}, d.fail
}
func (d *desk) Users(context.Context) ([]admin.User, error) {
	return []admin.User{{Name: "ann"}}, d.fail
}
func (d *desk) AddUser(_ context.Context, name, hash string) error {
	return d.say("add %s %s", name, hash)
}
func (d *desk) SetPassword(_ context.Context, name, hash string) error {
	return d.say("set %s %s", name, hash)
}
func (d *desk) RemoveUser(_ context.Context, name string) error { return d.say("remove %s", name) }
func (d *desk) Import(user string) mailimport.Target            { return &target{d, user} }

func (d *desk) Check(_ context.Context, report func(admin.Event)) (admin.CheckResult, error) {
	report(admin.Event{Done: 1, Total: 2})
	for i := range uint32(3) {
		report(admin.Event{Defect: &admin.Defect{Account: "ann", Mailbox: "Box", UID: i, Text: "is broken"}})
	}
	return admin.CheckResult{Messages: 5, Defects: 3}, d.fail
}
func (d *desk) Index(_ context.Context, req admin.IndexRequest, _ func(admin.Event)) ([]admin.IndexState, error) {
	return []admin.IndexState{{User: "ann", Indexed: 2, Waiting: 3}}, d.say("index %+v", req)
}

func (d *desk) Backup(ctx context.Context, req admin.BackupRequest, report func(admin.Event)) (admin.BackupResult, error) {
	if req.Dir == "/slow" {
		<-ctx.Done()
		d.calls = append(d.calls, "stopped")
		return admin.BackupResult{}, ctx.Err()
	}
	return admin.BackupResult{Files: 2, Bytes: 3, Copied: 1}, d.say("backup %+v", req)
}
func (d *desk) PrepareRestore(_ context.Context, plan admin.RestorePlan) error {
	return d.say("restore %+v", plan)
}
func (d *desk) Close() error { return nil }

type target struct {
	d    *desk
	user string
}

func (t *target) Prepare(_ context.Context, mailbox string) error {
	return t.d.say("prepare %s %s", t.user, mailbox)
}
func (t *target) Known(_ context.Context, keys []string) ([]bool, error) {
	known := make([]bool, len(keys))
	for i, k := range keys {
		known[i] = k == "old"
	}
	return known, t.d.say("known %s %v", t.user, keys)
}
func (t *target) Import(_ context.Context, mailbox string, items []mailimport.Item) error {
	if err := t.d.say("import %s %s %d", t.user, mailbox, len(items)); err != nil {
		return err
	}
	for i, it := range items {
		if i == 1 {
			continue // one that has become known meanwhile is not opened
		}
		r, err := it.Open()
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		t.d.mail = append(t.d.mail, fmt.Sprintf("%s %v %d %d:%.20s", it.Key, it.Flags, it.Date, len(b), b))
	}
	return nil
}

// serve puts a Service behind the socket of a folder.
func serve(t *testing.T, dir string, s admin.Service) *admin.Client {
	t.Helper()
	ln, cleanup, err := admin.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: admin.Handler(s, slog.New(slog.DiscardHandler))}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
		cleanup()
	})
	c, err := admin.Dial(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestService(t *testing.T) {
	d := &desk{}
	c := serve(t, t.TempDir(), d)
	ctx := context.Background()
	if list, err := c.Numbers(ctx); err != nil || len(list) != 1 || list[0].Name != "rookery_things" || list[0].Labels[0] != "a=b" || list[0].Value != 3 {
		t.Errorf("Numbers: %+v, %v", list, err)
	}
	if s, err := c.Status(ctx); err != nil || s != (admin.Status{Version: "v1", PID: 7}) {
		t.Errorf("Status: %+v, %v", s, err)
	}
	if u, err := c.Users(ctx); err != nil || !cmp.Equal(u, []admin.User{{Name: "ann"}}) {
		t.Errorf("Users: %+v, %v", u, err)
	}
	const odd = "a/b?c=d %41 é@x" // whatever a name may hold
	if err := errors.Join(c.AddUser(ctx, odd, "{X}y"), c.SetPassword(ctx, odd, "{X}z"), c.RemoveUser(ctx, odd),
		c.Import(odd).Prepare(ctx, "日本")); err != nil {
		t.Error(err)
	}
	want := []string{"add " + odd + " {X}y", "set " + odd + " {X}z", "remove " + odd, "prepare " + odd + " 日本"}
	if diff := cmp.Diff(want, d.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	known, err := c.Import("u").Known(ctx, []string{"new", "old", "a\x00b"})
	if err != nil || !cmp.Equal(known, []bool{false, true, false}) {
		t.Errorf("Known: %v, %v", known, err)
	}
}

func TestErrorsKeepTextAndKind(t *testing.T) {
	d := &desk{fail: imap.E("add user", imap.Exists, errors.New("there is one"))}
	c := serve(t, t.TempDir(), d)
	err := c.AddUser(context.Background(), "ann", "x")
	if err == nil || imap.KindOf(err) != imap.Exists || err.Error() != d.fail.Error() {
		t.Errorf("got %v (kind %v), want %v", err, imap.KindOf(err), d.fail)
	}
}

func item(key, text string, flags ...imap.Flag) mailimport.Item {
	return mailimport.Item{Key: key, Flags: flags, Date: imap.MakeTime(1234567890, 60), Size: int64(len(text)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func TestImport(t *testing.T) {
	d := &desk{}
	c := serve(t, t.TempDir(), d)
	long := strings.Repeat("0123456789", 700_000)
	err := c.Import("ann").Import(context.Background(), "Box", []mailimport.Item{
		item("a", "one", imap.FlagSeen, "x"), item("b", long), item("c", long), item("d", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	date := imap.MakeTime(1234567890, 60)
	want := []string{fmt.Sprintf("a [\\Seen x] %d 3:one", date), fmt.Sprintf("c [] %d 7000000:01234567890123456789", date), fmt.Sprintf("d [] %d 0:", date)}
	if diff := cmp.Diff(want, d.mail); diff != "" {
		t.Errorf("mail (-want +got):\n%s", diff)
	}
}

// A refusal reaches the client although it is still sending.
func TestImportRefused(t *testing.T) {
	d := &desk{fail: imap.E("import", imap.OverQuota, nil)}
	c := serve(t, t.TempDir(), d)
	for range 10 {
		err := c.Import("ann").Import(context.Background(), "Box", []mailimport.Item{item("a", strings.Repeat("x", 20<<20))})
		if imap.KindOf(err) != imap.OverQuota {
			t.Fatalf("got %v, want the refusal", err)
		}
	}
}

func TestImportOfAFileThatShrinks(t *testing.T) {
	c := serve(t, t.TempDir(), &desk{})
	it := item("a", "short")
	it.Size = 100
	if err := c.Import("ann").Import(context.Background(), "Box", []mailimport.Item{it}); err == nil || !strings.Contains(err.Error(), "changed while") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownRequest(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, &desk{})
	hc := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
	}}}
	resp, err := hc.Post("http://rookery/v9/fly", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode == http.StatusOK || !strings.Contains(string(b), "another version") {
		t.Errorf("%s: %s", resp.Status, b)
	}
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	if _, err := admin.Dial(context.Background(), dir); !errors.Is(err, admin.ErrNoServer) {
		t.Errorf("Dial without a server: %v", err)
	}
	// What a server that was killed has left is replaced.
	path := filepath.Join(dir, "admin.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	if _, err := admin.Dial(context.Background(), dir); !errors.Is(err, admin.ErrNoServer) {
		t.Errorf("Dial of a dead socket: %v", err)
	}
	serve(t, dir, &desk{})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", "/tmp")
	if _, err := admin.Dial(context.Background(), dir); !errors.Is(err, admin.ErrNoServer) {
		t.Errorf("Dial without a server: %v", err)
	}
	c := serve(t, dir, &desk{})
	if _, err := c.Status(context.Background()); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "admin.path"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Dir(string(b)))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder of the socket: %v, %v", info, err)
	}
	t.Setenv("TMPDIR", dir)
	other := filepath.Join(dir, "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := admin.Listen(other); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("no short path anywhere: %v", err)
	}
}

package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/passwd"
)

// list is a store of users in memory.
type list struct {
	hashes map[string]string
	fail   error
}

func (l *list) Get(_ context.Context, name string) (string, error) {
	if l.fail != nil {
		return "", l.fail
	}
	if h, ok := l.hashes[name]; ok {
		return h, nil
	}
	return "", imap.NotFound
}

func (l *list) List(context.Context) ([]string, error) { return nil, l.fail }

func TestDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("ann:{PLAIN}of-the-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := passwd.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := passwd.New("of-the-store")
	if err != nil {
		t.Fatal(err)
	}
	store := &list{hashes: map[string]string{"ann": hash, "bob@example.org": hash, "odd": "{NEWER}x"}}
	d := &directory{file: file, store: store, checker: passwd.NewChecker(), log: slog.New(slog.DiscardHandler), now: time.Now}
	ctx := context.Background()
	check := func(name, password string, want imap.Kind) {
		t.Helper()
		user, err := d.CheckPassword(ctx, name, password, netip.Addr{})
		if imap.KindOf(err) != want || (err == nil) != (want == imap.Other) || err == nil && user != name {
			t.Errorf("CheckPassword(%s, %s) = %q, %v; want kind %v", name, password, user, err, want)
		}
	}
	check("ann", "of-the-file", imap.Other)
	check("ann", "of-the-store", imap.AuthFailed)
	check("bob@example.org", "of-the-store", imap.Other)
	check("bob@example.org", "x", imap.AuthFailed)
	check("bob", "of-the-store", imap.AuthFailed)
	check("nobody", "x", imap.AuthFailed)
	check("odd", "x", imap.Unavailable)

	resolve := func(address, want string, kind imap.Kind) {
		t.Helper()
		user, err := d.Resolve(ctx, address)
		if imap.KindOf(err) != kind || kind == imap.Other && user != want {
			t.Errorf("Resolve(%s) = %q, %v; want %q, kind %v", address, user, err, want, kind)
		}
	}
	resolve("ann@anywhere.example", "ann", imap.Other)
	resolve("Ann+x@anywhere.example", "ann", imap.Other)
	resolve("bob+y@EXAMPLE.org", "bob@example.org", imap.Other)
	resolve("bob@elsewhere.example", "", imap.NotFound)

	store.fail = errors.New("the disk is away")
	check("bob@example.org", "of-the-store", imap.Unavailable)
	check("ann", "of-the-file", imap.Other)
	if _, err := d.Resolve(ctx, "bob@example.org"); err == nil || imap.KindOf(err) == imap.NotFound {
		t.Errorf("Resolve without the store: %v; the recipient must not be refused for good", err)
	}
}

// The bounds on connections are those that were given, as far as there are files.
func TestLimits(t *testing.T) {
	for _, tt := range []struct{ given, files, want int }{{0, 0, 0}, {-1, 0, -1}, {7, 0, 7}, {0, 9, 9}, {-1, 9, 9}, {7, 9, 7}, {10, 9, 9}} {
		d := &daemon{cfg: Config{MaxConns: tt.given, MaxConnsPerUser: 5, MaxConnsPerAddr: 6}, files: fileBudget{imap: tt.files}, log: slog.New(slog.DiscardHandler)}
		if l := d.limits(); l.Connections != tt.want || l.ConnectionsPerUser != 5 || l.ConnectionsPerAddr != 6 {
			t.Errorf("%+v: %+v", tt, l)
		}
	}
}

package bench_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
	"github.com/rookery-mail/rookery/internal/bench"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// TestRun runs every workload briefly on two servers in this process. Those
// that need something else must say so.
func TestRun(t *testing.T) {
	users := imapserver.Passwords{"u1": "p", "u2": "p", "u3": "p"}
	target := func() bench.Target {
		return bench.Target{Addr: serve(t, users), User: "u%d", Password: "p"}
	}
	mail, err := bench.GenerateMail(60, 6000, 1)
	if err != nil {
		t.Fatal(err)
	}
	report, err := bench.Run(context.Background(), bench.Config{
		Targets: []bench.Target{target(), target()}, Mail: mail, Messages: 60, Users: 3, Connections: 4,
		Rounds: 1, Time: time.Millisecond, Patterns: []string{"[^e]*", "expunge", "exists-latency"}, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, r := range report.Results {
		for i, side := range r.Sides {
			switch {
			case side.Error != "":
				t.Errorf("%s, server %d: %s", r.Workload, i+1, side.Error)
			case side.Skipped != "":
				if !strings.Contains(side.Skipped, "given") && !strings.Contains(side.Skipped, "announced") {
					t.Errorf("%s is left out: %s", r.Workload, side.Skipped)
				}
			case side.Median <= 0:
				t.Errorf("%s has no figure: %+v", r.Workload, side)
			default:
				ran++
			}
		}
		if r.Note != "" {
			t.Errorf("%s: %s", r.Workload, r.Note)
		}
	}
	if ran < 2*25 {
		t.Errorf("only %d workloads ran", ran/2)
	}
	if table := report.Table(true); strings.Count(table, "\n") < len(report.Results) {
		t.Errorf("the table is short:\n%s", table)
	}
}

// TestGrow lets everything grow a little.
func TestGrow(t *testing.T) {
	users := imapserver.Passwords{"u1": "p", "u2": "p", "u3": "p"}
	mail, err := bench.GenerateMail(60, 3000, 1)
	if err != nil {
		t.Fatal(err)
	}
	for by, sizes := range map[string][]int{"messages": {50, 1500}, "connections": {1, 7}, "accounts": {1, 3}} {
		t.Run(by, func(t *testing.T) {
			g, err := bench.Grow(t.Context(), bench.Config{
				Targets: []bench.Target{{Addr: serve(t, users), User: "u%d", Password: "p"}}, Mail: mail, Users: 3, Connections: 2,
				Time: time.Millisecond, Timeout: time.Minute,
			}, by, sizes)
			if err != nil {
				t.Fatal(err)
			}
			ran := 0
			for _, c := range g.Curves {
				if c.Skipped != "" {
					continue
				}
				ran++
				for i, p := range c.Points {
					if p.Error != "" || p.Median <= 0 || p.N != sizes[i] {
						t.Errorf("%s: %+v", c.Workload, p)
					}
				}
				if len(c.Points) != len(sizes) || !strings.Contains(g.Table(true), "| "+c.Workload+" |") {
					t.Errorf("%s has %d points, or is not in the table", c.Workload, len(c.Points))
				}
			}
			if ran < 3 {
				t.Errorf("only %d workloads ran", ran)
			}
		})
	}
	if _, err := bench.Grow(t.Context(), bench.Config{Targets: []bench.Target{{Addr: "127.0.0.1:1", User: "u"}}, Mail: mail}, "hope", nil); err == nil {
		t.Error("anything can grow")
	}
}

// TestExpungeLeavesEnough: the workloads behind one that expunges find a mailbox
// that is as large as the table says, however often that one has run.
func TestExpungeLeavesEnough(t *testing.T) {
	mail, err := bench.GenerateMail(60, 3000, 1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := bench.Config{
		Targets: []bench.Target{{Addr: serve(t, imapserver.Passwords{"u": "p"}), User: "u", Password: "p"}},
		Mail:    mail, Timeout: time.Minute,
	}
	for _, times := range []int{7, 200} {
		if left, err := bench.ExpungeOne(t.Context(), cfg, 50, times); err != nil || left < 50 {
			t.Errorf("after %d times %d messages of 50 are left: %v", times, left, err)
		}
	}
}

// TestLeavesNothing looks whether the mailboxes are gone after a run.
func TestLeavesNothing(t *testing.T) {
	users := imapserver.Passwords{"u1": "p", "u2": "p"}
	addr := serve(t, users)
	mail, err := bench.GenerateMail(10, 3000, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bench.Run(context.Background(), bench.Config{
		Targets: []bench.Target{{Addr: addr, User: "u%d", Password: "p"}}, Mail: mail, Messages: 10, Users: 2,
		Rounds: 1, Time: time.Millisecond, Patterns: []string{"append-8", "copy", "session-8"},
	}); err != nil {
		t.Fatal(err)
	}
	for user, password := range users {
		if said := converse(t, addr, "a LOGIN "+user+" "+password, `b LIST "" *`); strings.Contains(said, "rookery-bench") {
			t.Errorf("mailboxes are left over:\n%s", said)
		}
	}
}

// TestRefused checks what people see who name things wrongly.
func TestRefused(t *testing.T) {
	mail, err := bench.GenerateMail(1, 3000, 1)
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, imapserver.Passwords{"u": "p"})
	for name, tc := range map[string]struct {
		cfg  bench.Config
		want string
	}{
		"no server":   {bench.Config{Mail: mail}, "0 servers"},
		"no address":  {bench.Config{Mail: mail, Targets: []bench.Target{{User: "u"}}}, "neither an address"},
		"no mail":     {bench.Config{Targets: []bench.Target{{Addr: addr}}}, "no mail"},
		"no workload": {bench.Config{Mail: mail, Targets: []bench.Target{{Addr: addr}}, Patterns: []string{"nonsense"}}, `"nonsense"`},
		"password":    {bench.Config{Mail: mail, Targets: []bench.Target{{Addr: addr, User: "u", Password: "q"}}}, "log in as u"},
	} {
		if _, err := bench.Run(context.Background(), tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: the error is %v, which should speak of %s", name, err, tc.want)
		}
	}
}

// serve runs a server in memory and returns its address.
func serve(t *testing.T, users imapserver.Passwords) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	kv, blobs := memkv.NewKV(), memkv.NewBlobs()
	store, err := mailstore.Open(context.Background(), kv, blobs, mailstore.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	server, err := imapserver.New(imapstore.New(store), users, imapserver.Options{InsecureAuth: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		_ = store.Close(context.Background())
	})
	return ln.Addr().String()
}

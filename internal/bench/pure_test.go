package bench

import (
	"bytes"
	"context"
	"io"
	"math"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantile(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4, 0.25: 1.75} {
		if got := quantile(values, q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile(%v) = %v, want %v", q, got, want)
		}
	}
	if median(nil) != 0 || median([]float64{7}) != 7 {
		t.Error("median of none must be 0, of one that one")
	}
}

func TestNumber(t *testing.T) {
	for f, want := range map[float64]string{0: "", 0.00001: "0.00", 0.0123: "0.0123", 1.5: "1.50", 12.34: "12.3", 999.9: "1000", 4321: "4321",
		54321: "54 321", 1234567: "1 234 567", -54321: "-54 321", -1.5: "-1.50"} {
		if got := number(f); got != want {
			t.Errorf("number(%v) = %q, want %q", f, got, want)
		}
	}
}

func TestRatio(t *testing.T) {
	side := func(v float64) Side { return Side{Samples: []Sample{{Figure: v}}} }
	if r := (&Result{Unit: PerSecond, Sides: []Side{side(30), side(10)}}).finish(); r.Ratio != 3 {
		t.Errorf("three times as many per second is a ratio of %v", r.Ratio)
	}
	if r := (&Result{Unit: Millis, Sides: []Side{side(30), side(10)}}).finish(); r.Ratio > 0.34 {
		t.Errorf("three times as long is a ratio of %v", r.Ratio)
	}
}

func TestLiteralSize(t *testing.T) {
	for line, want := range map[string]int64{"* 1 FETCH (BODY[] {12}": 12, "BINARY[] ~{0}": 0, "{}": -1, "{a}": -1, "a}": -1, "": -1, "{-1}": -1, "* OK": -1, "{99999999999999999999}": -1} {
		got, ok := literalSize([]byte(line))
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("literalSize(%q) = %d, want %d", line, got, want)
		}
	}
}

// TestAwait scans responses that come in pieces of every size: literals that
// hold what looks like the end, and lines longer than what is read at once.
func TestAwait(t *testing.T) {
	said := "* 1 FETCH (BODY[] {16}\r\nb1 OK not this\r\n FLAGS ())\r\n" +
		"* SEARCH" + strings.Repeat(" 12345", 3000) + "\r\n* 2 FETCH (A {0}\r\n B {3}\r\nabc)\r\nb1 OK [X] done\r\n"
	for _, piece := range []int{1, 7, 1000, len(said)} {
		client, server := net.Pipe()
		go func() {
			for rest := said; rest != ""; {
				n := min(piece, len(rest))
				if _, err := io.WriteString(server, rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
			server.Close()
		}()
		c := &conn{nc: client, timeout: time.Minute, stop: func() bool { return true }}
		var lines int
		status, err := c.await(1, func([]byte) { lines++ })
		if err != nil || status != "OK [X] done" || c.untagged != 3 || lines != 3 || c.bytes != int64(len(said)) {
			t.Errorf("in pieces of %d: %q, %v, %d untagged, %d bytes", piece, status, err, c.untagged, c.bytes)
		}
		c.close()
	}
}

func TestNumbers(t *testing.T) {
	for line, want := range map[string]int64{"": 0, " 1 22 333": 3, " (1)(2 (3)(4))": 4} {
		if got := numbers([]byte(line)); got != want {
			t.Errorf("numbers(%q) = %d, want %d", line, got, want)
		}
	}
}

func TestStuffDots(t *testing.T) {
	for in, want := range map[string]string{"a\r\n.b\r\n..\r\n": "a\r\n..b\r\n...\r\n", ".\r\n": "..\r\n", "a.\r\n": "a.\r\n"} {
		if got := string(stuffDots([]byte("DATA"+in), 4)); got != "DATA"+want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("42 (a (strange) name) S 7 1 1 0 -1 4194560 1 2 3 4 100 50 20 10 20 0 1 0\n"))
	want := procStat{pid: 42, parent: 7, cpu: 1800 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseStat([]byte("nonsense")); err == nil {
		t.Error("nonsense is taken")
	}
}

// TestGenerate checks that the messages can be read, have the size that was
// asked for, are the same each time, and are never the same twice.
func TestGenerate(t *testing.T) {
	m, err := GenerateMail(3000, 6000, 1)
	if err != nil {
		t.Fatal(err)
	}
	if mean := m.Summary().Mean; mean < 4500 || mean > 7500 {
		t.Errorf("the mean is %.0f", mean)
	}
	again, err := GenerateMail(3000, 6000, 1)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := m.takeAt(7), again.takeAt(7+len(again.texts)); a.number != 0 || !bytes.Equal(a.after, b.after) {
		t.Errorf("the eighth place of a mailbox has mail %d on one server and %d on the other", a.number, b.number)
	}
	kinds, ids := make(map[string]int), make(map[string]bool)
	for i := range 4000 {
		a, b := m.take(), again.take()
		raw := a.appendTo(nil)
		if !bytes.Equal(raw, b.appendTo(nil)) {
			t.Fatalf("message %d is another one in the second run", i)
		}
		if len(raw) != a.size() {
			t.Fatalf("message %d has %d bytes, size says %d", i, len(raw), a.size())
		}
		msg, err := mail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("message %d: %v\n%s", i, err, raw)
		}
		if bytes.Count(raw, []byte("\n")) != bytes.Count(raw, []byte("\r\n")) {
			t.Fatalf("message %d has bare LF", i)
		}
		if _, err := msg.Header.AddressList("To"); err != nil {
			t.Errorf("message %d: To: %v", i, err)
		}
		id := msg.Header.Get("Message-ID")
		if ids[id] {
			t.Fatalf("message %d: %s came before", i, id)
		}
		ids[id] = true
		kind, _, _ := strings.Cut(msg.Header.Get("Content-Type"), ";")
		kinds[kind]++
		if msg.Header.Get("References") != "" {
			kinds["reply"]++
		}
	}
	for _, kind := range []string{"multipart/mixed", "multipart/alternative", "text/plain", "reply"} {
		if kinds[kind] < 100 {
			t.Errorf("only %d of 4000 are %s", kinds[kind], kind)
		}
	}
	if m.rare == "" || m.common == "" || m.rare == m.common || m.fromWord == "" || m.subjectWord == "" {
		t.Errorf("words to search: rare %q, common %q, from %q, subject %q", m.rare, m.common, m.fromWord, m.subjectWord)
	}
	if _, err := GenerateMail(1, 10, 1); err == nil {
		t.Error("a mean of 10 bytes is taken")
	}
}

// TestGenerateLarge: a supply has a few messages of up to 10 MB, and the mean that was
// asked for with them.
func TestGenerateLarge(t *testing.T) {
	for _, tc := range []struct {
		mean float64
		few  int // at least
	}{{6000, 3}, {3000, 1}} {
		m, err := GenerateMail(1_000_000, tc.mean, 1)
		if err != nil {
			t.Fatal(err)
		}
		n, most := 0, 0
		for i := range m.texts {
			size := message{&m.texts[i], 0}.size()
			most = max(most, size)
			if size >= largeFrom {
				n++
			}
		}
		if n < tc.few || n > 3+len(m.texts)/largeRate || most < 1_000_000 || most > largest*11/10 {
			t.Errorf("of %d messages %d are very large, the largest has %d bytes", len(m.texts), n, most)
		}
		if mean := m.Summary().Mean; math.Abs(mean/tc.mean-1) > 0.05 {
			t.Errorf("the mean is %.0f bytes, and should be %.0f", mean, tc.mean)
		}
	}
}

// TestLarge: whatever the mean and the seed are, very large messages leave enough of
// the mean for the others.
func TestLarge(t *testing.T) {
	for _, mean := range []float64{2_200, 2_500, 3_000, 6_000, 100_000, 1_000_000} {
		for seed := range uint64(100) {
			sizes, others := large(mean, seed)
			n, sum := distinct/mean, 0.0
			for i, size := range sizes {
				if float64(i) >= n || size < largeFrom || size > largest {
					t.Fatalf("mean %.0f, seed %d: message %d of %.0f has %.0f bytes", mean, seed, i, n, size)
				}
				sum += size
			}
			if others < smallest+(mean-smallest)/4 || len(sizes) > 1+int(n)/largeRate {
				t.Errorf("mean %.0f, seed %d: %d are very large, the mean of the others is %.0f", mean, seed, len(sizes), others)
			}
			if all := (sum + others*(n-float64(len(sizes)))) / n; math.Abs(all/mean-1) > 0.001 {
				t.Errorf("mean %.0f, seed %d: the mean is %.0f", mean, seed, all)
			}
		}
	}
}

// TestChooseTLS: without an address for TLS a pattern that does not speak of it means
// workloads without.
func TestChooseTLS(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		haveTLS bool
		plain   bool
		tls     bool
	}{{"search-*", false, true, false}, {"search-*", true, true, true}, {"search-*+tls", false, false, true}, {"*tls", false, false, true}, {"status", true, true, false}, {"status+tls", false, false, true}} {
		chosen, err := choose([]string{tc.pattern}, tc.haveTLS)
		if err != nil {
			t.Fatal(err)
		}
		plain := slices.ContainsFunc(chosen, func(w *workload) bool { return !w.tls })
		tls := slices.ContainsFunc(chosen, func(w *workload) bool { return w.tls })
		if plain != tc.plain || tls != tc.tls {
			t.Errorf("%q, with TLS %v: without %v, over TLS %v", tc.pattern, tc.haveTLS, plain, tls)
		}
	}
}

func TestLoadMail(t *testing.T) {
	dir := t.TempDir()
	one := "From: a@example.org\nSubject: one\nMessage-ID:\n <old@example.org>\nTo: b@example.org\n\nHello world\n"
	file := filepath.Join(dir, "mbox")
	if err := os.WriteFile(file, []byte("From a Mon Jan  1 00:00:00 2024\n"+one), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := LoadMail(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "From: a@example.org\r\nSubject: one\r\nMessage-ID: <000000000000.bench@rookery.invalid>\r\nTo: b@example.org\r\n\r\nHello world\r\n"
	if diff := cmp.Diff(want, string(m.take().appendTo(nil))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := LoadMail(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing file is no error")
	}
}

func TestTable(t *testing.T) {
	r := &Report{Servers: []ServerInfo{{Name: "A"}, {Name: "B"}}, Results: []*Result{
		(&Result{Workload: "append", Unit: PerSecond, Sides: []Side{
			{Samples: []Sample{{Ops: 2000, Seconds: 1, Client: 0.25, Server: new(0.5)}}}, {Samples: []Sample{{Ops: 1000, Seconds: 1, Client: 0.1}}}}}).finish(),
		(&Result{Workload: "lmtp", Unit: PerSecond, Sides: []Side{{Error: "broken"}, {Skipped: "not given"}}}).finish(),
	}}
	want := `| workload | unit | A | µs CPU/op | B | µs CPU/op | ratio | client |
|---|---|--:|--:|--:|--:|--:|--:|
| append | /s | 2000 | 250 | 1000 |  | 2.00 | 25 % |
| lmtp | /s | failed |  | - |  |  |  |

- lmtp, A: failed: broken
- lmtp, B: left out: not given
`
	if diff := cmp.Diff(want, r.Table(true)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if text := r.Table(false); !strings.HasPrefix(text, "workload  unit       A  µs CPU/op") {
		t.Errorf("the table of text is\n%s", text)
	}
}

// TestTableOfTLS wants the cost of TLS as a factor, whichever way is up, and no row
// for what was measured in one way only.
func TestTableOfTLS(t *testing.T) {
	result := func(name string, unit Unit, a, b float64) *Result {
		return (&Result{Workload: name, Unit: unit, Sides: []Side{{Samples: []Sample{{Figure: a}}}, {Samples: []Sample{{Figure: b}}}}}).finish()
	}
	r := &Report{Servers: []ServerInfo{{Name: "A"}, {Name: "B"}}, Results: []*Result{
		result("login", PerSecond, 300, 100), result("search", Millis, 2, 20), result("append", PerSecond, 3, 4),
		result("login+tls", PerSecond, 150, 80), result("search+tls", Millis, 3, 24), result("status+tls", PerSecond, 3, 4),
	}}
	want := [][]string{
		{"over TLS", "unit", "A", "cost of TLS", "B", "cost of TLS", "ratio without TLS", "ratio with TLS"},
		{"login", "/s", "150", "× 2.00", "80.0", "× 1.25", "3.00", "1.88"},
		{"search", "ms", "3.00", "× 1.50", "24.0", "× 1.20", "10.0", "8.00"},
	}
	if diff := cmp.Diff(want, r.tlsRows()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestDialIsBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := dial(ctx, "127.0.0.1:1", nil, nil, time.Second); err == nil {
		t.Error("a cancelled context connects")
	}
}

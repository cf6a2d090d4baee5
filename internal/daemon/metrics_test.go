package daemon

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/internal/crashfs"
)

// TestMetrics asks a server as a monitoring program does, before and after some
// work.
func TestMetrics(t *testing.T) {
	s := serve(t, crashfs.New(), t.TempDir(), 0)
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	before := s.scrape()
	c := s.login()
	for i := range 3 {
		text := fmt.Sprintf("Subject: %d\r\n\r\nSome text.\r\n", i)
		if r := c.do(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(text), text)); !strings.HasPrefix(r, "OK") {
			t.Fatal(r)
		}
	}
	c.do("SELECT nowhere")
	after := s.scrape()
	for name, want := range map[string]float64{
		"rookery_messages_stored_total":                                 3,
		"rookery_messages_content_bytes_total":                          78,
		"rookery_imap_connections_total":                                1,
		"rookery_imap_connections":                                      1,
		`rookery_imap_commands_total{command="APPEND",result="ok"}`:     3,
		`rookery_imap_commands_total{command="SELECT",result="failed"}`: 1,
		`rookery_imap_commands_total{command="LOGIN",result="ok"}`:      1,
		"rookery_messages_segments":                                     1,
		"rookery_messages_damaged_total":                                0,
		"rookery_messages_missing":                                      0,
	} {
		if got := after[name] - before[name]; got != want {
			t.Errorf("%s has risen by %g, not by %g", name, got, want)
		}
	}
	if dead, ok := after["rookery_messages_dead_bytes"]; !ok || dead != after["rookery_messages_ride_bytes_total"] {
		t.Errorf("%g bytes are dead of what nobody has deleted (known: %t)", dead, ok)
	}
	for _, name := range []string{"rookery_messages_bytes", "rookery_messages_syncs_total", "rookery_commits_total", "rookery_accounts_in_memory", "go_goroutines"} {
		if after[name] <= 0 {
			t.Errorf("%s is %g", name, after[name])
		}
	}
}

// scrape returns what the server says of itself. All of it must be understood,
// and all of our own have a help.
func (s *server) scrape() map[string]float64 {
	s.t.Helper()
	resp, err := http.Get("http://" + s.d.named["metrics"].Addr().String() + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatal(resp.Status, err)
	}
	form := regexp.MustCompile(`^(([a-z_]+)(?:\{[^{}]*\})?) (\S+)$`)
	help := regexp.MustCompile(`^# (?:HELP [a-z_]+ [A-Z].*\.|TYPE [a-z_]+ (?:counter|gauge|summary|histogram))$`)
	all := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		m := form.FindStringSubmatch(line)
		switch {
		case m != nil:
			if all[m[1]], err = strconv.ParseFloat(m[3], 64); err != nil {
				s.t.Error(line)
			}
		case !help.MatchString(line) && strings.Contains(line, "rookery"):
			s.t.Errorf("not understood: %s", line)
		}
	}
	return all
}

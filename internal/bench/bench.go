// Package bench measures IMAP servers: it is `rookery bench`. It puts mail into
// mailboxes of its own on one server, or on two that take turns, runs workloads
// by name, and reports medians, the processor time of both sides, and ratios.
//
// It speaks the protocol as bytes and looks at answers only as far as it must,
// to tell where they end and whether the work was done; it is no client library
// and no test of correctness (package imaptest is that). It connects only to
// the addresses that it is given, and every loop is bounded in count and time.
//
// Start with [Run], then workloads in workloads.go and [Table].
package bench

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// A Target is a server to measure.
type Target struct {
	// Name is what tables call it; empty: its address.
	Name string
	// Addr is host:port for IMAP without TLS, TLS for IMAP with implicit TLS,
	// LMTP for LMTP without TLS. Workloads that need one that is empty are left
	// out; one of Addr and TLS is needed.
	Addr, TLS, LMTP string
	// User is the name to log in with. Where it has a %d, that stands for the
	// numbers from 1 to Config.Users: as many users with the same password.
	// Otherwise all connections are one user's.
	User, Password string
	// PID is the number of a process of this machine, or the path of a file that
	// has it, whose processor time and memory, with those of its descendants, are
	// the server's; empty: not known.
	PID string
	// Restart is a shell command that restarts the server and may return before
	// the server is ready; empty: workloads that need it are left out. It runs
	// with this program's rights, so it must come from who runs it.
	Restart string
	// Data is the folder of this machine where the server keeps its mail; empty:
	// workloads that look at its size are left out.
	Data string
}

// Config says what to run. Zero values stand for the defaults in brackets.
type Config struct {
	// Targets are one server, or two to compare.
	Targets []Target
	// Patterns choose workloads by name, as path.Match has it; none: all. Those over
	// TLS are among them if a target has an address for it, or if the pattern has
	// "tls".
	Patterns []string
	// Mail is what is put into mailboxes.
	Mail *Mail
	// Messages is how many messages the main mailbox has [10,000].
	Messages int
	// Users is how many users a Target.User with %d stands for [8].
	Users int
	// Connections is how many connections the workloads have that work side by
	// side [8], Idle how many idle connections are opened [5,000].
	Connections, Idle int
	// Rounds is how many measurements the median is of [3]. Before them is one
	// that is not counted, but for workloads whose point is that nothing is warm.
	// Over TLS there are as many of half the time if the workload was measured
	// without TLS just before. A server that takes very long gets fewer: see
	// patience.
	Rounds int
	// Time is how long one measurement goes on where it is repeated [2 s]. One
	// that takes longer is let finish.
	Time time.Duration
	// Timeout bounds one command [10 min].
	Timeout time.Duration
	// Settle bounds how long servers are waited for until they are at rest, after
	// the main mailbox has been filled and before workloads that measure memory
	// or the time of single commands [2 min]; negative: they are not waited for,
	// nor are those whose Target.PID is not given.
	Settle time.Duration
	// Prefix begins the names of all mailboxes that are made [rookery-bench-].
	// They are deleted in the end, and at the beginning if they are left over.
	Prefix string
	// Keep keeps the main mailbox, and takes one that is there and has as many
	// messages.
	Keep bool
	// InsecureTLS takes any certificate.
	InsecureTLS bool
	// Reporter is told how it goes on; nil: nobody.
	Reporter Reporter
}

// A Reporter is told what goes on. Its methods are called one at a time.
type Reporter interface {
	// Step says what begins now, and which part of all is done, from 0 to 1.
	Step(what string, done float64)
	// Done gives a result as soon as it is there.
	Done(r *Result)
}

type silence struct{}

func (silence) Step(string, float64) {}
func (silence) Done(*Result)         {}

func (c Config) withDefaults() (Config, error) {
	set := func(p *int, n int) {
		if *p <= 0 {
			*p = n
		}
	}
	set(&c.Messages, 10_000)
	set(&c.Users, 8)
	set(&c.Connections, 8)
	set(&c.Idle, 5_000)
	set(&c.Rounds, 3)
	if c.Time <= 0 {
		c.Time = 2 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Minute
	}
	if c.Settle == 0 {
		c.Settle = 2 * time.Minute
	}
	if c.Prefix == "" {
		c.Prefix = "rookery-bench-"
	}
	if c.Reporter == nil {
		c.Reporter = silence{}
	}
	if c.Mail == nil {
		return c, errors.New("bench: there is no mail to work with")
	}
	if len(c.Targets) != 1 && len(c.Targets) != 2 {
		return c, fmt.Errorf("bench: %d servers were named; one can be measured, or two compared", len(c.Targets))
	}
	for i := range c.Targets {
		t := &c.Targets[i]
		if t.Addr == "" && t.TLS == "" {
			return c, fmt.Errorf("bench: server %d has neither an address for IMAP nor one for IMAP over TLS", i+1)
		}
		if t.Name == "" {
			t.Name = t.Addr
		}
		if t.Name == "" {
			t.Name = t.TLS
		}
	}
	return c, nil
}

// Workloads lists all workloads.
func Workloads() []Info {
	var infos []Info
	for _, w := range workloads() {
		infos = append(infos, Info{Name: w.name, What: w.what, Unit: w.unit})
	}
	return infos
}

// Info describes a workload.
type Info struct {
	Name, What string
	Unit       Unit
}

// choose returns the workloads that patterns name, in the order of the list;
// without patterns all. Where there is no TLS, those over TLS must be asked for.
func choose(patterns []string, haveTLS bool) ([]*workload, error) {
	var chosen []*workload
	used := make([]bool, len(patterns))
	for _, w := range workloads() {
		take := len(patterns) == 0 && (haveTLS || !w.tls)
		for i, p := range patterns {
			ok, err := path.Match(p, w.name)
			if err != nil {
				return nil, fmt.Errorf("bench: %q is no pattern: %w", p, err)
			}
			if ok && (haveTLS || !w.tls || strings.Contains(p, "tls")) {
				take, used[i] = true, true
			}
		}
		if take {
			chosen = append(chosen, w)
		}
	}
	for i, ok := range used {
		if !ok {
			return nil, fmt.Errorf("bench: no workload is named %q; `rookery bench --list` lists them", patterns[i])
		}
	}
	return chosen, nil
}

// Run measures. Where a workload fails, its result has the error and the others
// go on, and in the end Run returns ErrFailed. Other errors end it, such as a
// server that cannot be reached any more. The report, nil where nothing could be
// begun, is whole as far as it came.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	haveTLS := slices.ContainsFunc(cfg.Targets, func(t Target) bool { return t.TLS != "" })
	chosen, err := choose(cfg.Patterns, haveTLS)
	if err != nil {
		return nil, err
	}
	b := &bench{cfg: cfg, measured: make(map[string]bool)}
	report := &Report{Begun: time.Now().UTC().Truncate(time.Second), Machine: machine(), Mail: cfg.Mail.Summary(),
		Messages: cfg.Messages, Rounds: cfg.Rounds, Seconds: cfg.Time.Seconds()}
	defer func() {
		for _, s := range b.servers {
			report.Servers = append(report.Servers, s.info)
		}
		b.clean()
	}()
	for _, t := range cfg.Targets {
		s := &server{Target: t, cfg: &cfg}
		b.servers = append(b.servers, s)
		if err := s.open(ctx); ctx.Err() != nil {
			return report, ctx.Err()
		} else if err != nil {
			return report, fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	if _, err := b.settle(ctx, "filled", 0); err != nil {
		return report, err
	}
	for i, w := range chosen {
		r, err := b.measure(ctx, w, float64(i)/float64(len(chosen)), 1/float64(len(chosen)))
		report.Results = append(report.Results, r)
		b.measured[w.name] = true
		cfg.Reporter.Done(r)
		if err != nil {
			return report, err
		}
	}
	if failed := report.failed(); len(failed) > 0 {
		return report, fmt.Errorf("%w: %s", ErrFailed, strings.Join(failed, ", "))
	}
	return report, nil
}

// ErrFailed is wrapped by the error of a Run of which all workloads had their
// turn, but some have failed: their results say why.
var ErrFailed = errors.New("workloads have failed")

type bench struct {
	cfg      Config
	servers  []*server
	measured map[string]bool // names of workloads
}

func (b *bench) clean() {
	for _, s := range b.servers {
		s.clean(b.cfg.Keep)
	}
}

// lacks says why a workload cannot run here, or returns "".
func (s *server) lacks(w *workload) string {
	switch {
	case w.tls && s.TLS == "":
		return "no address for TLS is given"
	case !w.tls && w.needs&(needLMTP|needData) == 0 && s.Addr == "":
		return "no address without TLS is given"
	case w.needs&needLMTP != 0 && s.LMTP == "":
		return "no address for LMTP is given"
	case w.needs&needPID != 0 && s.PID == "":
		return "the server's process is not given"
	case w.needs&needData != 0 && s.Data == "":
		return "the server's folder is not given"
	case w.needs&needRestart != 0 && s.Restart == "":
		return "no command to restart the server is given"
	case w.cap != "" && !s.caps[w.cap]:
		return w.cap + " is not announced"
	}
	return ""
}

func (s *server) user(i int) string {
	if !strings.Contains(s.User, "%d") {
		return s.User
	}
	return strings.ReplaceAll(s.User, "%d", fmt.Sprint(i%s.cfg.Users+1))
}

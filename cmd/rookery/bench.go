package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rookery-mail/rookery/internal/bench"
)

const benchLong = `Measure any IMAP server, or two against each other.

ADDR is host:port for IMAP without TLS ("off" for none, then with --tls). The
user is a throw-away one; --user bench%d stands for users bench1 to bench8 (or
as many as --users says) with one password, as the workloads of several users
want. The password may also come from $ROOKERY_BENCH_PASSWORD.

It makes mailboxes that begin with rookery-bench-, fills them with generated
mail or that of --mail, and deletes them in the end, also after Ctrl-C. With
--lmtp, mail is also delivered to INBOX, and removed again.

Each figure is the median of several rounds. A server that takes three times as
long as its rounds should gets no further one, and what was measured without TLS
just before takes half of the time over TLS. With --against, the servers take
turns, round by round, and the ratio says how many times better the first one
is. With --pid, the server's processor time and its memory are shown beside each
figure (memory is resident, each process's proportional share, and needs the
right to look at the process); the last column is how much of one processor this
program itself took: where that comes near 100 % the client is what was measured.
Of select, status and fetch-one it always is near that, by design: there this
program looks for each answer without going to sleep, so that the time to wake it
up is not measured.

Generated mail has the mean size that --size says. Most messages are small, and
about one of 3,000 (fewer below a mean of 5 kB) has 200 kB to 10 MB. In one round
both servers are given the same mail.

idle-memory opens --idle connections, SELECTs INBOX in each and idles; what is in
INBOX is not this program's, and of a throw-away user that is nothing. Many servers
take some dozens of connections of one user only, so name many users.

With --pid, servers are also waited for, --settle at most, before workloads that
measure memory or the time of single commands, and when mail has been put in:
until they have done next to nothing for three seconds. What a server still does
for an earlier workload is not the next one's.

--grow shows how cost grows: it measures one server again and again while the
messages of a mailbox, the connections or the accounts become more. Messages are
multiplied by COPY, so a mailbox of 1,000,000 is there in seconds or minutes. For
connections and accounts name users with a %d, and how many with --users.`

type benchFlags struct {
	cfg         bench.Config
	targets     [2]bench.Target
	mail, size  string
	run         string
	grow        string
	sizes       []int
	seed        uint64
	list        bool
	json, mdown bool
}

func newBench(std streams) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench ADDR --user U --password P [--against ADDR]",
		Short: "Measure an IMAP server, or compare two",
		Long:  benchLong,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.list && len(args) == 0 {
				return nil
			}
			return oneArg("the address of the server, host:port,")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.list {
				return listWorkloads(std.out)
			}
			f.targets[0].Addr = args[0]
			return f.measure(cmd, std)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	f.addTarget(cmd, 0, "", "")
	fl.StringVar(&f.targets[1].Addr, "against", "", "the `address` of a second server to compare with")
	f.addTarget(cmd, 1, "against-", " of the second server")
	fl.IntVar(&f.cfg.Users, "users", 8, "how many users a %d stands for")
	fl.StringVar(&f.run, "run", "", "the `workloads` to run, names or patterns (fetch-*) with commas between; those over TLS (*+tls) where an address for it is given, or by that name; default: all")
	fl.BoolVar(&f.list, "list", false, "list the workloads and end")
	fl.StringVar(&f.grow, "grow", "", "measure how cost grows with `what`: messages, connections or accounts")
	fl.IntSliceVar(&f.sizes, "sizes", nil, "the `sizes` to grow through, with commas between")
	fl.IntVar(&f.cfg.Messages, "messages", 10_000, "how many messages the mailbox has that is read")
	fl.StringVar(&f.mail, "mail", "", "an mbox or Maildir with mail to use; default: generated")
	fl.StringVar(&f.size, "size", "6kB", "the mean `size` of generated messages, 2 kB to 10 MB each")
	fl.Uint64Var(&f.seed, "seed", 1, "another seed generates other messages")
	fl.IntVar(&f.cfg.Rounds, "rounds", 3, "how many rounds, after one to warm up")
	fl.DurationVar(&f.cfg.Time, "time", 2*time.Second, "how long one measurement goes on")
	fl.DurationVar(&f.cfg.Settle, "settle", 2*time.Minute, "how long servers are waited for until they are at rest; negative: not at all")
	fl.IntVar(&f.cfg.Connections, "connections", 8, "how many connections work side by side")
	fl.IntVar(&f.cfg.Idle, "idle", 5000, "how many idle connections idle-memory opens")
	fl.BoolVar(&f.cfg.Keep, "keep", false, "keep the mailbox that is read, and use it again where it is there")
	fl.BoolVar(&f.cfg.InsecureTLS, "insecure-tls", false, "take any certificate")
	fl.BoolVar(&f.json, "json", false, "write JSON with every sample")
	fl.BoolVar(&f.mdown, "markdown", false, "write the table in Markdown")
	return cmd
}

// addTarget adds the flags about one of the servers.
func (f *benchFlags) addTarget(cmd *cobra.Command, i int, prefix, of string) {
	t, fl := &f.targets[i], cmd.Flags()
	same := ""
	if i > 0 {
		same = "; default: as for the first"
	}
	fl.StringVar(&t.User, prefix+"user", "", "the `name` to log in with"+of+same)
	fl.StringVar(&t.Password, prefix+"password", "", "the `password`"+of+same)
	fl.StringVar(&t.Name, prefix+"name", "", "what tables call the server; default: its address")
	fl.StringVar(&t.TLS, prefix+"tls", "", "the `address` for IMAP over TLS"+of)
	fl.StringVar(&t.LMTP, prefix+"lmtp", "", "the `address` for LMTP"+of+", host:port or unix:PATH")
	fl.StringVar(&t.PID, prefix+"pid", "", "the `process`"+of+" where it runs on this machine: its number, or a file (a path with a /) that has it; its children count too")
	fl.StringVar(&t.Data, prefix+"data", "", "the `folder` of this machine where the server keeps its mail"+of+", to measure disk space")
	fl.StringVar(&t.Restart, prefix+"restart", "", "a shell `command` that restarts the server"+of+", for select-first")
}

// check refuses what cannot be meant.
func (f *benchFlags) check() error {
	for _, n := range []struct {
		flag  string
		value int
	}{{"messages", f.cfg.Messages}, {"rounds", f.cfg.Rounds}, {"connections", f.cfg.Connections}, {"users", f.cfg.Users}, {"idle", f.cfg.Idle}} {
		if n.value < 1 {
			return usage("--%s is %d; it must be at least 1", n.flag, n.value)
		}
	}
	if f.cfg.Time <= 0 {
		return usage("--time is %v; it must be more than nothing, for example 2s", f.cfg.Time)
	}
	if f.json && f.mdown {
		return usage("the results can be written with --json or with --markdown, not both")
	}
	return nil
}

// complete checks the flags and fills in the rest of the configuration.
func (f *benchFlags) complete() error {
	if err := f.check(); err != nil {
		return err
	}
	first, second := &f.targets[0], &f.targets[1]
	if first.User == "" {
		return usage("who is to log in? Name a throw-away user with --user")
	}
	if first.Password == "" {
		first.Password = os.Getenv("ROOKERY_BENCH_PASSWORD")
	}
	f.cfg.Targets = []bench.Target{*first}
	if second.Addr != "" {
		if second.User == "" {
			second.User = first.User
		}
		if second.Password == "" {
			second.Password = first.Password
		}
		f.cfg.Targets = append(f.cfg.Targets, *second)
	}
	for i := range f.cfg.Targets {
		t := &f.cfg.Targets[i]
		if strings.EqualFold(t.Addr, "off") {
			t.Addr = ""
		}
		if t.Addr != "" && !strings.Contains(t.Addr, ":") {
			return usage("%q is not an address: write host:port, for example 127.0.0.1:1143", t.Addr)
		}
	}
	for p := range strings.SplitSeq(f.run, ",") {
		if p = strings.TrimSpace(p); p != "" {
			f.cfg.Patterns = append(f.cfg.Patterns, p)
		}
	}
	return nil
}

func (f *benchFlags) measure(cmd *cobra.Command, std streams) error {
	if err := f.complete(); err != nil {
		return err
	}
	var err error
	if f.cfg.Mail, err = f.supply(); err != nil {
		return err
	}
	p := &benchProgress{out: std.err, live: term.IsTerminal(int(std.err.Fd()))}
	f.cfg.Reporter = p
	if f.grow != "" {
		growth, err := bench.Grow(cmd.Context(), f.cfg, f.grow, f.sizes)
		p.clear()
		if growth == nil {
			return usage("--grow: %w", err)
		}
		return errors.Join(err, f.print(std.out, growth))
	}
	report, err := bench.Run(cmd.Context(), f.cfg)
	p.clear()
	if report == nil {
		return usage("%w", err)
	}
	if len(report.Results) == 0 && !f.json {
		return err
	}
	return errors.Join(err, f.print(std.out, report))
}

// supply loads or generates the mail to work with.
func (f *benchFlags) supply() (*bench.Mail, error) {
	if f.mail != "" {
		return bench.LoadMail(f.mail)
	}
	mean, err := parseSize(f.size)
	if err != nil {
		return nil, usage("--size: %w", err)
	}
	mail, err := bench.GenerateMail(f.cfg.Messages, mean, f.seed)
	if err != nil {
		return nil, usage("--size: %w", err)
	}
	return mail, nil
}

// print writes a report as JSON or as its table.
func (f *benchFlags) print(out io.Writer, report interface{ Table(markdown bool) string }) error {
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", " ")
		return enc.Encode(report)
	}
	_, err := fmt.Fprint(out, report.Table(f.mdown))
	return err
}

func listWorkloads(out io.Writer) error {
	for _, w := range bench.Workloads() {
		if _, err := fmt.Fprintf(out, "%-26s %-5s %s\n", w.Name, w.Unit, w.What); err != nil {
			return err
		}
	}
	return nil
}

// parseSize reads a number of bytes, with kB or MB.
func parseSize(s string) (float64, error) {
	number, factor := strings.TrimSpace(s), 1.0
	for suffix, by := range map[string]float64{"kB": 1e3, "MB": 1e6} {
		if n, ok := strings.CutSuffix(number, suffix); ok {
			number, factor = strings.TrimSpace(n), by
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: write bytes, or 6kB, or 1MB", s)
	}
	return n * factor, nil
}

// benchProgress shows on a terminal what is measured now, and elsewhere a line
// for each result.
type benchProgress struct {
	out   io.Writer
	live  bool
	drawn bool
}

// Step implements bench.Reporter.
func (p *benchProgress) Step(what string, done float64) {
	if p.live {
		fmt.Fprintf(p.out, "\r\x1b[K%3.0f%% %s", done*100, what)
		p.drawn = true
	}
}

// Done implements bench.Reporter.
func (p *benchProgress) Done(r *bench.Result) {
	p.clear()
	fmt.Fprintln(p.out, r)
}

func (p *benchProgress) clear() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}

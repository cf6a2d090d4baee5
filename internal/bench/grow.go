package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Growth is what Grow has found: how the cost of workloads depends on the size
// of something. Its JSON form is that of `rookery bench --grow --json`.
type Growth struct {
	By      string     `json:"by"`
	What    string     `json:"what"` // in words
	Sizes   []int      `json:"sizes"`
	Begun   time.Time  `json:"begun"`
	Machine Machine    `json:"machine"`
	Seconds float64    `json:"seconds"` // of one measurement
	Server  ServerInfo `json:"server"`
	Curves  []*Curve   `json:"curves"`
}

// A Curve is one workload at all sizes.
type Curve struct {
	Workload string `json:"workload"`
	What     string `json:"what"`
	Unit     Unit   `json:"unit"`
	// Flat says that the cost should not depend on the size.
	Flat    bool    `json:"flat,omitempty"`
	Points  []Point `json:"points"`
	Skipped string  `json:"skipped,omitempty"` // why it did not run
}

// A Point is a workload at one size.
type Point struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`           // in the curve's unit
	P99    float64 `json:"p99,omitempty"`    // of times
	Server float64 `json:"server,omitempty"` // µs of the server's processor time for one operation
	Error  string  `json:"error,omitempty"`
}

// A dimension is what can grow.
type dimension struct {
	name, what string
	sizes      []int
	curves     []*curve
	// begin gets ready once, grow makes the size n.
	begin func(g *growing) error
	grow  func(g *growing, n int) error
}

// A curve is a workload that is measured at every size.
type curve struct {
	name, what string
	unit       Unit // Millis for one operation, or PerSecond, or Kilobytes
	flat       bool
	needs      need
	cap        string
	before     func(g *growing) error
	// op is done again and again, and timed, where the unit is Millis. It may
	// return a duration of its own; 0 stands for all of it.
	op func(g *growing) (time.Duration, error)
	// all is op for workers side by side (PerSecond).
	all func(g *growing, worker int) error
	// value is found once (Kilobytes), or an op that is done once (Millis).
	value func(g *growing) (float64, error)
}

// growing is a run of Grow.
type growing struct {
	*server
	ctx  context.Context
	time time.Duration
	n    int // the size now

	box     string
	c       *conn   // works; in the box where the dimension has one
	other   *conn   // a second session
	conns   []*conn // of the dimension connections
	marks   *marks  // for storeOne
	flagged []bool  // by connection: whether its own message is
	told    chan time.Time
	resync  string

	expunged int    // messages that were not replaced yet
	ended    func() // ends what the curve has begun
}

func dimensions() []*dimension {
	return []*dimension{growMessages(), growConnections(), growAccounts()}
}

// Dimensions lists what Grow can make grow, with the default sizes.
func Dimensions() []string {
	var names []string
	for _, d := range dimensions() {
		names = append(names, fmt.Sprintf("%s: %s; %s", d.name, d.what, strings.Trim(strings.ReplaceAll(fmt.Sprint(d.sizes), " ", ", "), "[]")))
	}
	return names
}

// Grow measures workloads on the first target while the messages of a mailbox,
// the connections or the accounts grow from size to size; nil sizes stand for
// the default ones. With many connections or accounts, Target.User has a %d and
// Config.Users says how many users there are: a server takes some dozens of
// connections of one user only.
func Grow(ctx context.Context, cfg Config, by string, sizes []int) (*Growth, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(dimensions(), func(d *dimension) bool { return d.name == by })
	if at < 0 {
		return nil, fmt.Errorf("bench: %q cannot be made to grow; there are\n  %s", by, strings.Join(Dimensions(), "\n  "))
	}
	d := dimensions()[at]
	if len(sizes) == 0 {
		sizes = d.sizes
	}
	sizes = slices.Sorted(slices.Values(sizes))
	s := &server{Target: cfg.Targets[0], cfg: &cfg}
	g := &growing{server: s, ctx: ctx, time: cfg.Time, box: s.main()}
	report := &Growth{By: d.name, What: d.what, Sizes: sizes, Begun: time.Now().UTC().Truncate(time.Second), Machine: machine(), Seconds: cfg.Time.Seconds()}
	for _, c := range d.curves {
		report.Curves = append(report.Curves, &Curve{Workload: c.name, What: c.what, Unit: c.unit, Flat: c.flat})
	}
	if err := s.look(ctx); err != nil {
		return report, fmt.Errorf("%s: %w", s.Name, err)
	}
	report.Server = s.info
	defer g.close()
	defer s.clean(false)
	if err := d.begin(g); err != nil {
		return report, fmt.Errorf("%s: %w", s.Name, err)
	}
	for i, n := range sizes {
		done := float64(i) / float64(len(sizes))
		cfg.Reporter.Step(fmt.Sprintf("making %d %s", n, d.name), done)
		if err := d.grow(g, n); err != nil {
			return report, fmt.Errorf("%s: making %d %s: %w", s.Name, n, d.name, err)
		}
		cfg.Reporter.Step(fmt.Sprintf("%d %s, waiting until the server is at rest", n, d.name), done)
		if _, err := s.atRest(ctx); err != nil {
			return report, err
		}
		g.n = n
		for j, c := range d.curves {
			cfg.Reporter.Step(fmt.Sprintf("%d %s, %s", n, d.name, c.name), done+float64(j)/float64(len(d.curves)*len(sizes)))
			g.point(c, report.Curves[j])
			if ctx.Err() != nil {
				return report, ctx.Err()
			}
		}
	}
	return report, nil
}

// look logs in once to see what the server can do.
func (s *server) look(ctx context.Context) error {
	c, err := s.login(ctx, false, 0)
	if err != nil {
		return err
	}
	defer c.close()
	return s.ask(c)
}

// point measures a curve at the size that there is now.
func (g *growing) point(c *curve, into *Curve) {
	w := &workload{needs: c.needs, cap: c.cap}
	if into.Skipped = g.lacks(w); into.Skipped != "" {
		return
	}
	p, err := g.measure(c)
	p.N = g.n
	if err != nil {
		p.Error = err.Error()
	}
	into.Points = append(into.Points, p)
}

func (g *growing) measure(c *curve) (p Point, err error) {
	defer func() {
		if g.ended != nil {
			g.ended()
			g.ended = nil
		}
	}()
	if c.before != nil {
		if err := c.before(g); err != nil {
			return p, fmt.Errorf("getting ready: %w", err)
		}
	}
	if c.value != nil {
		p.Median, err = c.value(g)
		return p, err
	}
	before, err := g.usage(false)
	if err != nil {
		return p, err
	}
	var ops int
	if c.op != nil {
		var times []float64
		times, err = g.repeat(c)
		ops = len(times)
		p.Median, p.P99 = median(times), quantile(times, 0.99)
	} else {
		begun := time.Now()
		ops, err = g.sideBySide(c)
		p.Median = float64(ops) / time.Since(begun).Seconds()
	}
	if err != nil {
		return p, err
	}
	after, err := g.usage(false)
	if ops > 0 {
		p.Server = float64((after.cpu - before.cpu).Microseconds()) / float64(ops)
	}
	return p, err
}

// repeat does c.op until the time is over and returns how long each took, in
// milliseconds.
func (g *growing) repeat(c *curve) ([]float64, error) {
	var times []float64
	for deadline := time.Now().Add(g.time); len(times) < maxOps; {
		begun := time.Now()
		took, err := c.op(g)
		if err != nil {
			return times, err
		}
		if took == 0 {
			took = time.Since(begun)
		}
		times = append(times, took.Seconds()*1000)
		if !time.Now().Before(deadline) || g.ctx.Err() != nil {
			break
		}
	}
	return times, g.ctx.Err()
}

// sideBySide does c.all in many goroutines until the time is over, and returns
// how often.
func (g *growing) sideBySide(c *curve) (int, error) {
	n := len(g.conns)
	if n == 0 {
		n = g.cfg.Connections
	}
	counts, errs := make([]int, n), make([]error, n)
	deadline := time.Now().Add(g.time)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for time.Now().Before(deadline) && g.ctx.Err() == nil {
				if errs[i] = c.all(g, i); errs[i] != nil {
					return
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	ops := 0
	for _, k := range counts {
		ops += k
	}
	return ops, errors.Join(errors.Join(errs[:min(n, 10)]...), g.ctx.Err())
}

// memory is the server's resident memory in kilobytes.
func (g *growing) memory() (float64, error) {
	u, err := g.usage(true)
	return float64(u.rss) / 1000, err
}

func (g *growing) close() {
	for _, c := range append(g.conns, g.c, g.other) {
		if c != nil {
			c.close()
		}
	}
}

// dial logs in as the i-th user.
func (g *growing) dial(i int) (*conn, error) { return g.login(g.ctx, false, i) }

// multiply makes a mailbox that has some messages have n, by copying. It is the
// quickest way that all servers have, and leaves an index of n messages. c has
// the mailbox selected.
func multiply(c *conn, box string, n int) error {
	for {
		have := 0
		if _, err := c.collect("SELECT "+box, func(line []byte) {
			var k int
			if _, err := fmt.Sscanf(string(line), "* %d EXISTS", &k); err == nil {
				have = k
			}
		}); err != nil {
			return err
		}
		if have >= n {
			return nil
		}
		if have == 0 {
			return errors.New("there is nothing to copy")
		}
		// Not too many at once: a command should not take minutes anywhere.
		if _, err := c.do(fmt.Sprintf("COPY 1:%d %s", min(have, n-have, 50_000), box)); err != nil {
			return err
		}
	}
}

// Table writes the curves for people: a row for each, a column for each size.
func (r *Growth) Table(markdown bool) string {
	header := []string{"workload", "unit"}
	for _, n := range r.Sizes {
		header = append(header, number(float64(n)))
	}
	rows := [][]string{append(header, "growth", "µs CPU/op")}
	for _, c := range r.Curves {
		if c.Skipped != "" {
			continue
		}
		row, cpu := []string{c.Workload, string(c.Unit)}, []string(nil)
		for _, n := range r.Sizes {
			value := "-"
			if i := slices.IndexFunc(c.Points, func(p Point) bool { return p.N == n }); i >= 0 {
				p := c.Points[i]
				if value = number(p.Median); p.Error != "" {
					value = "failed"
				}
				if p.Server > 0 {
					cpu = append(cpu, number(p.Server))
				}
			}
			row = append(row, value)
		}
		rows = append(rows, append(row, c.growth(), strings.Join(cpu, " → ")))
	}
	var b strings.Builder
	if markdown {
		writeMarkdown(&b, rows)
	} else {
		writeText(&b, rows)
	}
	for _, c := range r.Curves {
		for _, p := range c.Points {
			if p.Error != "" {
				fmt.Fprintf(&b, "\n%s at %d: %s", c.Workload, p.N, p.Error)
			}
		}
	}
	return b.String()
}

// growth is the last figure divided by the first.
func (c *Curve) growth() string {
	if len(c.Points) < 2 {
		return ""
	}
	first, last := c.Points[0].Median, c.Points[len(c.Points)-1].Median
	if first == 0 || math.IsInf(last/first, 0) {
		return ""
	}
	return "× " + number(last/first)
}

package bench

import (
	"fmt"
	"slices"
)

// Requests of mail programs.
const (
	envelopes = "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"
	// Thunderbird asks for this when it opens a mailbox.
	thunderbird = "UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID " +
		"Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])"
	absent = "qzxjqwvkjzx" // a word that no message has
)

// workloads is the list of all workloads, in the order in which they run.
func workloads() []*workload {
	list := slices.Concat([]*workload{onDisk()}, writing(), opening(), fetching(), storing(), searching(), moving(), others())
	for _, w := range list {
		if w.plain {
			continue
		}
		over := *w
		over.name, over.what, over.tls = w.name+overTLS, w.what+", over TLS", true
		list = append(list, &over)
	}
	return list
}

func opening() []*workload {
	return []*workload{
		{name: "select-first", what: "the first SELECT after a restart", unit: Millis, needs: needRestart, still: true,
			before: func(e *env) error {
				err := e.restart(e.ctx)
				if err == nil {
					e.c, err = e.dial(0)
				}
				return err
			},
			run: func(e *env) (Sample, error) {
				return e.timed(func() (int64, int64, error) { return 1, 0, e.c.expect("SELECT "+e.main(), 3) })
			}},
		{name: "memory", what: "resident memory at rest, one session in the mailbox (proportional share)", unit: Resident, needs: needPID, once: true, plain: true, still: true,
			before: openMain,
			run: func(e *env) (Sample, error) {
				u, err := e.usage(true)
				return Sample{Ops: 1, Figure: float64(u.pss) / 1e6}, err
			}},
		{name: "select", what: "SELECT again", unit: PerSecond, short: true, still: true,
			before: func(e *env) error { _, err := e.open(e.main()); return err },
			run:    repeating(func(e *env) string { return "SELECT " + e.main() }, 3)},
		{name: "status", what: "STATUS", unit: PerSecond, short: true, still: true,
			before: func(e *env) (err error) { e.c, err = e.dial(0); return err },
			run:    repeating(func(e *env) string { return "STATUS " + e.main() + " (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)" }, 1)},
	}
}

// repeating runs one command on e.c again and again, which must have a number
// of untagged responses.
func repeating(command func(e *env) string, responses int) func(*env) (Sample, error) {
	return func(e *env) (Sample, error) {
		cmd := command(e)
		return e.repeat(func() (int64, int64, error) { return 1, 0, e.c.expect(cmd, responses) })
	}
}

// openMain selects the main mailbox before a measurement.
func openMain(e *env) error {
	_, err := e.open(e.main())
	return err
}

// openWarm is openMain with a command done once, so that it is not the first.
func openWarm(command string) func(*env) error {
	return func(e *env) error {
		if err := openMain(e); err != nil {
			return err
		}
		return e.c.expect(command, e.cfg.Messages)
	}
}

// openFresh fills a mailbox that nobody has read yet and selects it.
func openFresh(e *env) error {
	e.box = e.newBox()
	e.boxes = append(e.boxes, e.box)
	if err := e.fill(e.ctx, 0, e.box, e.cfg.Messages); err != nil {
		return err
	}
	_, err := e.open(e.box)
	return err
}

// fetchAll runs a FETCH of all messages once.
func fetchAll(command string) func(*env) (Sample, error) {
	return func(e *env) (Sample, error) {
		return e.timed(func() (int64, int64, error) { return fetchOnce(e, command) })
	}
}

// fetchAgain runs it until the time is over.
func fetchAgain(command string) func(*env) (Sample, error) {
	return func(e *env) (Sample, error) {
		return e.repeat(func() (int64, int64, error) { return fetchOnce(e, command) })
	}
}

func fetchOnce(e *env, command string) (int64, int64, error) {
	err := e.c.expect(command, e.cfg.Messages)
	return int64(e.cfg.Messages), e.c.bytes, err
}

func fetching() []*workload {
	const flags = "UID FETCH 1:* (UID FLAGS)"
	return []*workload{
		{name: "fetch-flags", what: "UID FETCH 1:* (UID FLAGS)", unit: PerSecond, before: openWarm(flags), run: fetchAgain(flags)},
		{name: "fetch-envelope-first", what: "FETCH 1:* of ENVELOPE, BODYSTRUCTURE and the rest, first time", unit: PerSecond, first: true, heavy: true,
			before: openFresh, run: fetchAll(envelopes)},
		{name: "fetch-envelope", what: "the same again", unit: PerSecond, before: openWarm(envelopes), run: fetchAgain(envelopes)},
		{name: "fetch-headers-first", what: "FETCH 1:* of the header fields that Thunderbird asks for, first time", unit: PerSecond, first: true, heavy: true,
			before: openFresh, run: fetchAll(thunderbird)},
		{name: "fetch-headers", what: "the same again", unit: PerSecond, before: openWarm(thunderbird), run: fetchAgain(thunderbird)},
		{name: "fetch-bodies", what: "FETCH 1:* BODY.PEEK[]", unit: Megabytes, before: openMain, run: fetchAgain("FETCH 1:* BODY.PEEK[]")},
		{name: "fetch-one", what: "BODY.PEEK[] of one random message at a time", unit: PerSecond, short: true, still: true, before: openMain,
			run: func(e *env) (Sample, error) {
				rng := random(1)
				return e.repeat(func() (int64, int64, error) {
					err := e.c.expect(fmt.Sprintf("FETCH %d (UID BODY.PEEK[])", 1+rng.IntN(e.cfg.Messages)), 1)
					return 1, e.c.bytes, err
				})
			}},
	}
}

func storing() []*workload {
	return []*workload{
		{name: "store-all", what: "STORE 1:* of a flag, silent", unit: PerSecond, before: openMain,
			run: func(e *env) (Sample, error) {
				sign := "+"
				s, err := e.repeat(func() (int64, int64, error) {
					_, err := e.c.do("STORE 1:* " + sign + `FLAGS.SILENT (\Flagged)`)
					sign = string('+' + '-' - sign[0])
					return int64(e.cfg.Messages), 0, err
				})
				if err == nil {
					_, err = e.c.do(`STORE 1:* -FLAGS.SILENT (\Flagged)`)
				}
				return s, err
			}},
		{name: "store-8", what: "single STOREs side by side in one mailbox, each of which changes a flag", unit: PerSecond, still: true,
			before: func(e *env) error {
				c, err := e.login(e.ctx, e.w.tls, 0)
				if err != nil {
					return err
				}
				defer c.close()
				if _, err = c.do("SELECT " + e.main()); err == nil {
					e.marks, err = unmark(c, `\Answered`, e.cfg.Messages)
				}
				return err
			},
			run: storeSingle},
	}
}

// storeSingle has several connections turn over a flag of one message at a time, each
// of messages that are its own.
func storeSingle(e *env) (Sample, error) {
	n := min(e.cfg.Connections, e.cfg.Messages)
	conns := make([]*conn, n)
	for i := range conns {
		c, err := e.login(e.ctx, e.w.tls, 0)
		if err != nil {
			return Sample{}, err
		}
		e.conns = append(e.conns, c)
		if _, err := c.do("SELECT " + e.main()); err != nil {
			return Sample{}, err
		}
		conns[i] = c
	}
	rngs := randoms(n)
	return e.parallel(n, func(i int) (int64, error) {
		own := (e.cfg.Messages - i + n - 1) / n // numbers i+1, i+1+n, i+1+2*n ...
		_, err := conns[i].do(e.marks.turn(1 + i + n*rngs[i].IntN(own)))
		return 1, err
	})
}

// marks knows which messages of a mailbox have a flag, so that every STORE can change
// something: for one that does not, a server has nothing to commit. Goroutines may
// use it side by side for messages of their own.
type marks struct {
	flag string
	has  []bool // by sequence number, less one
}

// unmark takes a flag from the first n messages, all that there are, of the mailbox
// that c has selected.
func unmark(c *conn, flag string, n int) (*marks, error) {
	_, err := c.do("STORE 1:* -FLAGS.SILENT (" + flag + ")")
	return &marks{flag: flag, has: make([]bool, n)}, err
}

// turn returns the command that gives message n the flag, or takes it away.
func (m *marks) turn(n int) string {
	sign := '+'
	if m.has[n-1] {
		sign = '-'
	}
	m.has[n-1] = !m.has[n-1]
	return fmt.Sprintf("STORE %d %cFLAGS (%s)", n, sign, m.flag)
}

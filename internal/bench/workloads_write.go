package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// randoms returns a generator for each of n goroutines.
func randoms(n int) []*rand.Rand {
	rngs := make([]*rand.Rand, n)
	for i := range rngs {
		rngs[i] = random(uint64(i))
	}
	return rngs
}

func writing() []*workload {
	return []*workload{
		{name: "login", what: "connect, LOGIN, LOGOUT, side by side", unit: PerSecond, run: func(e *env) (Sample, error) {
			return e.parallel(e.cfg.Connections, func(i int) (int64, error) {
				c, err := e.login(e.ctx, e.w.tls, i)
				if err != nil {
					return 0, err
				}
				defer c.close()
				_, err = c.do("LOGOUT")
				return 1, err
			})
		}},
		{name: "append-1", what: "APPEND, one connection", unit: PerSecond, run: func(e *env) (Sample, error) { return appending(e, 1) }},
		{name: "append-8", what: "APPEND, side by side, a user each", unit: PerSecond,
			run: func(e *env) (Sample, error) { return appending(e, e.cfg.Connections) }},
		{name: "lmtp-8", what: "LMTP, side by side, a user each", unit: PerSecond, needs: needLMTP, plain: true, run: delivering},
		{name: "multiappend", what: "APPEND of 100 messages at a time, one connection", unit: PerSecond, cap: "MULTIAPPEND", run: importing},
	}
}

// ownBoxes makes a mailbox for each of n users and returns connections and a
// function that deletes the mailboxes.
func (e *env) ownBoxes(n int) (conns []*conn, box string, done func() error, err error) {
	box = e.newBox()
	for i := range n {
		c, err := e.dial(i)
		if err != nil {
			return nil, "", nil, err
		}
		conns = append(conns, c)
		if i == 0 || e.user(i) != e.user(0) {
			if _, err := c.do("CREATE " + box); err != nil && i < e.cfg.Users {
				return nil, "", nil, err
			}
		}
	}
	return conns, box, func() error {
		for i, c := range conns {
			if i == 0 || e.user(i) != e.user(0) && i < e.cfg.Users {
				if _, err := c.do("DELETE " + box); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil
}

func appending(e *env, n int) (Sample, error) {
	conns, box, done, err := e.ownBoxes(n)
	if err != nil {
		return Sample{}, err
	}
	s, err := e.parallel(n, func(i int) (int64, error) { return 1, conns[i].appendAll(box, e.cfg.Mail.take()) })
	if err != nil {
		return s, err
	}
	return s, done()
}

func importing(e *env) (Sample, error) {
	conns, box, done, err := e.ownBoxes(1)
	if err != nil {
		return Sample{}, err
	}
	const batch = 100
	s, err := e.repeat(func() (int64, int64, error) { return batch, 0, conns[0].appendAll(box, e.take(batch)...) })
	if err != nil {
		return s, err
	}
	return s, done()
}

// delivering leaves its messages in the INBOX of its users: LMTP knows no other
// place. Afterwards they are expunged, known by their Message-IDs.
func delivering(e *env) (Sample, error) {
	n := e.cfg.Connections
	e.delivering = true
	conns := make([]*lmtpConn, n)
	for i := range conns {
		c, err := dialLMTP(e.ctx, e.LMTP, e.cfg.Timeout)
		if err != nil {
			return Sample{}, err
		}
		defer c.close()
		conns[i] = c
	}
	s, err := e.parallel(n, func(i int) (int64, error) { return 1, conns[i].deliver(recipient(e.user(i)), e.cfg.Mail.take()) })
	if err != nil {
		return s, err
	}
	for i := range min(n, e.cfg.Users) {
		if i > 0 && e.user(i) == e.user(0) {
			break
		}
		if err := e.removeDelivered(e.ctx, i); err != nil {
			return s, fmt.Errorf("removing what was delivered: %w", err)
		}
	}
	e.delivering = false
	return s, nil
}

func recipient(user string) string {
	if strings.Contains(user, "@") {
		return user
	}
	return user + "@localhost"
}

// removeDelivered expunges this program's messages from a user's INBOX. Without
// UIDPLUS, where EXPUNGE might take other messages along, they stay, deleted.
func (s *server) removeDelivered(ctx context.Context, i int) error {
	c, err := s.login(ctx, false, i)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.do("SELECT INBOX"); err != nil {
		return err
	}
	var uids []string
	if _, err := c.collect("UID SEARCH HEADER Message-ID "+quote(strings.TrimSuffix(idAfter, ">\r\n")), func(line []byte) {
		if rest, ok := strings.CutPrefix(string(line), "* SEARCH "); ok {
			uids = append(uids, strings.Fields(rest)...)
		}
	}); err != nil {
		return err
	}
	for some := range slices.Chunk(uids, 500) {
		set := strings.Join(some, ",")
		if _, err := c.do("UID STORE " + set + ` +FLAGS.SILENT (\Deleted)`); err != nil {
			return err
		}
		if !s.caps["UIDPLUS"] {
			continue
		}
		if _, err := c.do("UID EXPUNGE " + set); err != nil {
			return err
		}
	}
	return nil
}

package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// server is a target under measurement.
type server struct {
	Target
	cfg  *Config
	info ServerInfo
	caps map[string]bool // after login
	made int             // mailboxes so far, for their names
	done float64         // which part of all is done, for progress
	// delivering says that there may be messages in the INBOX of users that are
	// to be removed.
	delivering bool
	empty      int64 // size of Data before the main mailbox was filled; -1: not known
}

// main is the mailbox that most workloads read.
func (s *server) main() string { return s.cfg.Prefix + "main" }

// newBox returns a name that is free.
func (s *server) newBox() string {
	s.made++
	return s.cfg.Prefix + strconv.Itoa(s.made)
}

// connect connects, without logging in.
func (s *server) connect(ctx context.Context, useTLS bool, n int) (*conn, error) {
	addr, cfg := s.Addr, (*tls.Config)(nil)
	if useTLS || addr == "" {
		addr = s.TLS
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		cfg = &tls.Config{ServerName: host, InsecureSkipVerify: s.cfg.InsecureTLS, MinVersion: tls.VersionTLS12}
	}
	return dial(ctx, addr, cfg, source(addr, n), s.cfg.Timeout)
}

// source returns the address to connect from: on loopback, where every address
// of 127.0.0.0/8 is this machine's, one for each thousand connections, so that
// neither ports nor a server's limit for one address are used up.
func source(addr string, n int) net.Addr {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	if n < 1000 || ip == nil || !ip.IsLoopback() || ip.To4() == nil {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+n/1000))}
}

// login connects as the i-th user.
func (s *server) login(ctx context.Context, useTLS bool, i int) (*conn, error) {
	c, err := s.connect(ctx, useTLS, i)
	if err != nil {
		return nil, err
	}
	c.caps = s.caps
	if err := c.login(s.user(i), s.Password); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// open logs in, asks what the server can do, and fills the main mailbox.
func (s *server) open(ctx context.Context) error {
	c, err := s.login(ctx, false, 0)
	if err != nil {
		return err
	}
	defer c.close()
	if err := s.ask(c); err != nil {
		return err
	}
	if s.cfg.Keep {
		if n, err := s.count(c, s.main()); err == nil && n == s.cfg.Messages {
			s.empty = -1
			return nil
		}
	}
	s.delivering = s.LMTP != "" // perhaps, by a run that came to no end
	s.clean(false)
	s.delivering = false
	if s.Data != "" {
		if s.empty, err = folderSize(s.Data); err != nil {
			return fmt.Errorf("the size of the server's folder: %w", err)
		}
	}
	return s.fill(ctx, 0, s.main(), s.cfg.Messages)
}

// ask finds out what the server is and can do.
func (s *server) ask(c *conn) error {
	s.info = ServerInfo{Name: s.Name, Greeting: c.greeting}
	s.caps = make(map[string]bool)
	if _, err := c.collect("CAPABILITY", func(line []byte) {
		if rest, ok := strings.CutPrefix(string(line), "* CAPABILITY "); ok {
			s.info.Capabilities = rest
			for name := range strings.FieldsSeq(rest) {
				s.caps[strings.ToUpper(name)] = true
			}
		}
	}); err != nil {
		return err
	}
	c.caps = s.caps
	if s.caps["ID"] {
		if _, err := c.collect("ID NIL", func(line []byte) { s.info.ID = strings.TrimPrefix(string(line), "* ID ") }); err != nil {
			return err
		}
	}
	_, err := s.usage(false)
	return err
}

// count returns how many messages a mailbox has.
func (s *server) count(c *conn, mailbox string) (n int, err error) {
	_, err = c.collect("STATUS "+mailbox+" (MESSAGES)", func(line []byte) {
		if _, rest, ok := strings.Cut(string(line), "(MESSAGES "); ok {
			n, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), ")"))
		}
	})
	return n, err
}

// fillers is how many connections fill a mailbox.
const fillers = 4

// fill makes a mailbox of the i-th user and puts n messages in.
func (s *server) fill(ctx context.Context, i int, mailbox string, n int) error {
	c, err := s.login(ctx, false, i)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.do("CREATE " + mailbox); err != nil {
		return err
	}
	tell := func(done int) {
		s.cfg.Reporter.Step(fmt.Sprintf("filling %s: %d of %d messages", s.Name, done, n), s.done)
	}
	tell(0)
	var begun atomic.Int64
	errs := make([]error, fillers)
	var wg sync.WaitGroup
	for f := range errs {
		wg.Go(func() {
			errs[f] = s.fillPart(ctx, i, mailbox, n, func(batch int) int {
				at := int(begun.Add(int64(batch))) - batch
				if f == 0 && at < n {
					tell(at)
				}
				return at
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if got, err := s.count(c, mailbox); err != nil || got != n {
		return errors.Join(err, fmt.Errorf("mailbox %s has %d messages, %d were put in", mailbox, got, n))
	}
	return nil
}

// fillPart appends messages in batches, for whose beginnings it asks next, until
// n is reached.
func (s *server) fillPart(ctx context.Context, i int, mailbox string, n int, next func(batch int) int) error {
	c, err := s.login(ctx, false, i)
	if err != nil {
		return err
	}
	defer c.close()
	batch := 1
	if s.caps["MULTIAPPEND"] {
		batch = 50
	}
	for at := next(batch); at < n; at = next(batch) {
		messages := make([]message, min(batch, n-at))
		for k := range messages {
			messages[k] = s.cfg.Mail.takeAt(at + k)
		}
		if err := c.appendAll(mailbox, messages...); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) take(n int) []message {
	messages := make([]message, n)
	for i := range messages {
		messages[i] = s.cfg.Mail.take()
	}
	return messages
}

// clean deletes the mailboxes that this program has made, for all users, but the
// main one where keep is set, and what an interrupted workload has delivered. What
// cannot be deleted stays.
func (s *server) clean(keep bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	users := 1
	if s.user(0) != s.user(1) {
		users = s.cfg.Users
	}
	for i := range users {
		c, err := s.login(ctx, false, i)
		if err != nil {
			return
		}
		var names []string
		_, err = c.collect("LIST \"\" "+quote(s.cfg.Prefix+"*"), func(line []byte) {
			at := strings.LastIndex(string(line), s.cfg.Prefix)
			if at >= 0 {
				names = append(names, strings.TrimSuffix(string(line[at:]), `"`))
			}
		})
		for _, name := range names {
			if err == nil && (name != s.main() || !keep) {
				_, _ = c.do("DELETE " + quote(name))
			}
		}
		c.close()
		if s.delivering {
			_ = s.removeDelivered(ctx, i)
		}
	}
}

// restart restarts the server and waits until it takes logins.
func (s *server) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	// Its output goes nowhere: a pipe would stay open as long as the server runs.
	if err := exec.CommandContext(ctx, "sh", "-c", s.Restart).Run(); err != nil {
		return fmt.Errorf("the command to restart %s: %w (run it by hand to see what it says)", s.Name, err)
	}
	for {
		c, err := s.login(ctx, false, 0)
		if err == nil {
			c.close()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has not come back after its restart: %w", s.Name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func dialRaw(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	return d.DialContext(ctx, network, addr)
}

// usage returns what the server's processes have used; nothing where they are
// not known.
func (s *server) usage(memory bool) (usage, error) {
	if s.PID == "" {
		return usage{}, nil
	}
	text := s.PID
	if strings.ContainsRune(text, '/') {
		b, err := os.ReadFile(text)
		if err != nil {
			return usage{}, fmt.Errorf("the number of the server's process: %w", err)
		}
		text = strings.TrimSpace(string(b))
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return usage{}, fmt.Errorf("%q is not the number of a process", text)
	}
	return processTree(pid, memory)
}

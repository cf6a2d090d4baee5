package imapserver_test

import (
	"bufio"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/memory"
)

// TestChaos lets clients do what they like while others push news to them, poll
// them and say BYE. Every line that they get must be whole, every connection
// must end, and nothing may be left behind.
func TestChaos(t *testing.T) {
	m := memory.New()
	for range 5 {
		m.Add("ann", "INBOX", hello)
	}
	srv := newServer(t, overMemory(t, m), imapserver.Options{TLS: testTLS(t), InsecureAuth: true})
	before := runtime.NumGoroutine()
	stop := make(chan struct{})
	var disturbers, clients sync.WaitGroup
	for i := range 4 {
		disturbers.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(rnd.IntN(300)) * time.Microsecond):
				}
				for _, c := range srv.Connections() {
					if rnd.IntN(1000) == 0 {
						c.Bye("chaos")
					}
					switch rnd.IntN(40) {
					case 1, 2, 3, 4:
						c.Poll()
					case 5, 6, 7, 8:
						c.Alert("something")
					case 9, 10:
						c.Push(func(w *imapwire.Encoder) { w.Raw("* OK one\r\n* OK two\r\n") })
					case 11:
						if rnd.IntN(10) == 0 {
							m.Add("ann", "INBOX", hello)
						}
					}
					_ = c.Info()
				}
			}
		})
	}
	for i := range 12 {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(8, uint64(i)))
			for range 10 {
				chaosClient(t, srv, rnd)
			}
		})
	}
	clients.Wait()
	close(stop)
	disturbers.Wait()
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	until(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}

var wholeLine = regexp.MustCompile(`^(\* (OK|BYE|FLAGS|LIST|SEARCH|CAPABILITY|ENABLED|\d+ (EXISTS|RECENT|EXPUNGE|FETCH)) ?.*|\+ .*|c\d+ (OK|NO|BAD) .*)$`)

// chaosClient is one connection until it ends, by its own will or not.
func chaosClient(t *testing.T, srv *imapserver.Server, rnd *rand.Rand) {
	ours, theirs := net.Pipe()
	go srv.ServeConn(context.Background(), theirs)
	defer ours.Close()
	p := newPump(ours)
	in, out := bufio.NewReader(p), io.Writer(p)
	serial := 0
	// do gives a command and reads to its reply, to a "+", or to the end.
	read := func(tag string) bool {
		for {
			line, err := readResponse(in)
			if err != nil {
				return false
			}
			if !wholeLine.MatchString(strings.ReplaceAll(line, "\r\n", " ")) {
				t.Errorf("not a response: %q", line)
				return false
			}
			if strings.HasPrefix(line, tag+" ") || strings.HasPrefix(line, "+ ") {
				return true
			}
		}
	}
	do := func(command string) bool {
		serial++
		tag := fmt.Sprintf("c%d", serial)
		if _, err := io.WriteString(out, tag+" "+command+"\r\n"); err != nil {
			return false
		}
		return read(tag)
	}
	if line, err := readResponse(in); err != nil || !strings.HasPrefix(line, "* ") || !do("LOGIN ann secret") {
		return
	}
	commands := []string{
		"NOOP", "SELECT INBOX", "EXAMINE INBOX", "FETCH 1:* (UID FLAGS)", "FETCH 1:3 BODY.PEEK[]", "SEARCH ALL",
		"STORE 1 +FLAGS (\\Flagged)", "UID STORE 1:* -FLAGS.SILENT (\\Flagged)", "LIST \"\" *", "CAPABILITY", "UNSELECT", "NONSENSE",
		"APPEND INBOX {3+}\r\nx\r\n", "ENABLE QRESYNC",
	}
	packed := false
	for range rnd.IntN(30) {
		ok := true
		switch n := rnd.IntN(10); {
		case n < 3:
			if ok = do("IDLE"); ok {
				time.Sleep(time.Duration(rnd.IntN(400)) * time.Microsecond)
				_, err := io.WriteString(out, "DONE\r\n")
				ok = err == nil && read(fmt.Sprintf("c%d", serial))
			}
		case n == 3 && !packed:
			if ok = do("COMPRESS DEFLATE"); ok {
				packed = true
				in, out = bufio.NewReader(flate.NewReader(in)), compressing(p)
			}
		default:
			ok = do(commands[rnd.IntN(len(commands))])
		}
		if !ok {
			return
		}
	}
	do("LOGOUT")
}

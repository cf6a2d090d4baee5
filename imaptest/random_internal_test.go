package imaptest

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

// A lie changes a line that a server says on one connection; literals come as
// part of the line. kept is what the same lie kept back earlier.
type lie func(line string, kept *[]string) []string

var (
	expungeLine = regexp.MustCompile(`^\* (\d+) EXPUNGE\r\n`)
	existsLine  = regexp.MustCompile(`^\* (\d+) EXISTS\r\n`)
	newsLine    = regexp.MustCompile(`^\* \d+ FETCH \((UID \d+ )?FLAGS`)
)

// drop is a lie that leaves out what matches.
func drop(re *regexp.Regexp) lie {
	return func(line string, _ *[]string) []string {
		if re.MatchString(line) {
			return nil
		}
		return []string{line}
	}
}

// replace is a lie that changes what matches.
func replace(re, with string) lie {
	pattern := regexp.MustCompile(re)
	return func(line string, _ *[]string) []string { return []string{pattern.ReplaceAllString(line, with)} }
}

// lessOne takes one off the number of a line that matches.
func lessOne(re *regexp.Regexp) lie {
	return func(line string, _ *[]string) []string {
		m := re.FindStringSubmatchIndex(line)
		if m == nil {
			return []string{line}
		}
		n, _ := strconv.Atoi(line[m[2]:m[3]])
		return []string{line[:m[2]] + strconv.Itoa(max(n-1, 1)) + line[m[3]:]}
	}
}

// late keeps EXPUNGE back until a FETCH is about to end.
func late(line string, kept *[]string) []string {
	if expungeLine.MatchString(line) {
		*kept = append(*kept, line)
		return nil
	}
	if strings.Contains(line, " OK FETCH") {
		lines := append(*kept, line)
		*kept = nil
		return lines
	}
	return []string{line}
}

var lies = map[string]lie{
	"an EXPUNGE is lost":             drop(expungeLine),
	"EXPUNGE comes within FETCH":     late,
	"EXPUNGE names the one before":   lessOne(expungeLine),
	"EXISTS is lost":                 drop(existsLine),
	"EXISTS is one too few":          lessOne(existsLine),
	"flags are lost":                 drop(newsLine),
	"flags were never set":           replace(`([( ])FLAGS \(`, `${1}FLAGS ($$Never `),
	"recent for everybody":           replace(`([( ])FLAGS \(`, `${1}FLAGS (\Recent `),
	"a wrong body":                   replace(`This is number`, `That is number`),
	"VANISHED (EARLIER) is lost":     drop(regexp.MustCompile(`^\* VANISHED \(EARLIER\)`)),
	"VANISHED is lost":               drop(regexp.MustCompile(`^\* VANISHED \d`)),
	"VANISHED without QRESYNC":       replace(`^\* (\d+) EXPUNGE`, `* VANISHED $1`),
	"the mod-sequence falls":         replace(`MODSEQ \(\d*[02468]\)`, `MODSEQ (1)`),
	"a search finds what is not":     replace(`^\* SEARCH`, `* SEARCH 4000000000`),
	"UIDs are one off now and then":  replace(`UID 3 `, `UID 4 `),
	"a UID is given twice":           replace(`APPENDUID (\d+) \d+`, `APPENDUID $1 1`),
	"UIDVALIDITY changes":            replace(`UIDVALIDITY \d+`, `UIDVALIDITY 7`),
	"HIGHESTMODSEQ is beyond itself": replace(`\[HIGHESTMODSEQ \d+\]`, `[HIGHESTMODSEQ 900000]`),
}

// liar stands between client and server.
func liar(conn net.Conn, tell lie) net.Conn {
	ours, theirs := net.Pipe()
	go func() {
		defer conn.Close()
		io.Copy(conn, theirs)
	}()
	go func() {
		defer theirs.Close()
		r := bufio.NewReader(conn)
		var kept []string
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			for {
				n, ok := literalSize([]byte(strings.TrimSuffix(line, "\r\n")))
				if !ok || strings.HasPrefix(line, "* OK") {
					break
				}
				data := make([]byte, n)
				io.ReadFull(r, data)
				rest, _ := r.ReadString('\n')
				line += string(data) + rest
			}
			for _, l := range tell(line, &kept) {
				if _, err := io.WriteString(theirs, l); err != nil {
					return
				}
			}
		}
	}()
	return ours
}

// memoryTarget serves the default model over pipes, with a liar between.
func memoryTarget(tell lie) Target {
	return Target{New: func(t testing.TB) *Server {
		backend, err := imapmodel.New(memory.New(), imapmodel.Options{State: &imapmodel.MemoryState{}})
		if err != nil {
			t.Fatal(err)
		}
		srv, err := imapserver.New(backend, imapserver.Passwords{"ann": "secret"}, imapserver.Options{InsecureAuth: true, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { srv.Close() })
		return &Server{
			Users: []User{{"ann", "secret"}},
			Dial: func(context.Context) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go srv.ServeConn(context.Background(), theirs)
				return liar(ours, tell), nil
			},
		}
	}}
}

// TestRandomFindsLies proves the random test: a server that tells the truth
// passes, and each lie is found by one of a few lists of commands.
func TestRandomFindsLies(t *testing.T) {
	o := RandomOptions{Seed: 1, Steps: 80}.withDefaults()
	lists := make([][]randomOp, 20)
	for i := range lists {
		lists[i] = slices.DeleteFunc(randomOps(uint64(i+1), o), func(op randomOp) bool {
			return op.kind == randIdle // a lie within IDLE is noticed by waiting only
		})
	}
	truthful := memoryTarget(func(line string, _ *[]string) []string { return []string{line} })
	for _, ops := range lists[:3] {
		if f := tryOps(t, truthful, o, ops); f != nil {
			t.Fatalf("the truth: %v\n%s", f.err, strings.Join(f.shown, "\n"))
		}
	}
	for name, tell := range lies {
		t.Run(name, func(t *testing.T) {
			for _, ops := range lists {
				if f := tryOps(t, memoryTarget(tell), o, ops); f != nil {
					t.Log(f.err)
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}

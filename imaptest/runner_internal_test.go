package imaptest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// fakeServer answers each command with what answers has for it, where "T" at
// the beginning of a line stands for the tag; everything else gets "T OK done".
// It knows as much of IMAP as the runner itself needs.
func fakeServer(t testing.TB, answers map[string]string) *Server {
	dial := func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		t.Cleanup(func() { server.Close() })
		go serveFake(server, answers)
		return client, nil
	}
	return &Server{Dial: dial, Users: []User{{"ann", "secret"}, {"bob", "secret2"}}}
}

func serveFake(conn net.Conn, answers map[string]string) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	fmt.Fprint(conn, "* OK hello\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		for {
			line = strings.TrimSuffix(line, "\r\n")
			n, ok := literalSize([]byte(strings.Replace(line, "+}", "}", 1)))
			if !ok {
				break
			}
			if !strings.HasSuffix(line, "+}") {
				fmt.Fprint(conn, "+ go\r\n")
			}
			data := make([]byte, n)
			io.ReadFull(r, data)
			rest, _ := r.ReadString('\n')
			line = line[:strings.LastIndexByte(line, '{')] + string(data) + rest
		}
		tag, command, _ := strings.Cut(line, " ")
		answer, ok := answers[command]
		switch {
		case ok:
		case command == "CAPABILITY":
			answer = "* CAPABILITY IMAP4rev1 UIDPLUS APPENDLIMIT=100|T OK done"
		case command == "LOGOUT":
			answer = "* BYE bye|T OK done"
		default:
			answer = "T OK done"
		}
		for l := range strings.SplitSeq(answer, "|") {
			if rest, ok := strings.CutPrefix(l, "T "); ok {
				l = tag + " " + rest
			}
			l = strings.ReplaceAll(l, "%T", tag)
			if _, err := fmt.Fprint(conn, l+"\r\n"); err != nil {
				return
			}
		}
	}
}

// runText runs a script given as text, its header being one rfc: line.
func runText(t *testing.T, answers map[string]string, header, body string) (*runner, error) {
	t.Helper()
	s, err := parseScript("test.txtar", []byte("rfc: 9051\n"+header+"\n"+body))
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(t, s, fakeServer(t, answers))
	t.Cleanup(r.closeAll)
	target := Target{Lacks: []string{"MOVE"}}
	if need := s.lacks(&target); need != "" {
		return r, fmt.Errorf("left out: %s", need)
	}
	if err := r.prepare(t.Context(), &target); err != nil {
		return r, err
	}
	return r, r.run(t.Context())
}

var fakeAnswers = map[string]string{
	"SELECT INBOX": `* 3 EXISTS|* FLAGS (\Seen \Draft)|* OK [UIDVALIDITY 77] yes|T OK [READ-WRITE] done`,
	"FETCH 1 FLAGS": `* 1 FETCH (FLAGS (\Seen $Forwarded) UID 5 BODY[HEADER.FIELDS (To)] {9}|` +
		"To: a|\r\n)|T OK done",
	"FETCH 2 FLAGS":          "* 2 FETCH (FLAGS ()  UID 5)|T OK done",
	"NOOP":                   "* 2 EXPUNGE|T OK done",
	"CHECK":                  "T OK done|* 2 EXPUNGE",
	"COPY 77":                "T OK [COPYUID 78 1:3 4:6] done",
	"EXAMINE x\"y":           "T OK [READ-ONLY] done",
	"BOGUS":                  "T BAD Expected a command, got BOGUS",
	"UID SEARCH ALL":         `* ESEARCH (TAG "%T") UID COUNT 3 ALL 1:3|T OK done`,
	"LIST \"\" *":            `* LIST (\HasChildren \Marked) "/" "A"|* LIST (\HasNoChildren) "/" B|T OK done`,
	"IDLE":                   "+ idling",
	"DONE":                   "",
	"AUTHENTICATE PLAIN":     "+ ",
	"STATUS INBOX (SIZE)":    "* STATUS INBOX (UIDNEXT 4 MESSAGES 3)|T OK done",
	"APPEND INBOX {literal}": "T OK done",
}

func TestScriptsThatHold(t *testing.T) {
	for name, body := range map[string]string{
		"sets": `
a C: SELECT INBOX
a S: * 3 EXISTS
a S: * FLAGS (\Draft \Seen)
a S: * OK [UIDVALIDITY $v]
a S: OK [READ-WRITE]
? $v == 77
? $v < 70 + 8
a C: COPY $v
a S: OK [COPYUID $v2 1:3 4:$_] text is free
`,
		"optional and any code": `
a C: SELECT INBOX
a S: * 3 EXISTS
a S? * 0 RECENT
a S: ...
a S: * OK [UIDVALIDITY $v] $_
a S: OK $_
`,
		"unordered": `
a C: LIST "" *
unordered {
a S: * LIST (\HasNoChildren) "/" B
a S: * LIST (\Marked \HasChildren) $sep A
a S: OK
}
? $sep == /
`,
		"fetch": `
a C: FETCH 1 FLAGS
a S: * 1 FETCH (UID $u FLAGS ($Forwarded \Seen) BODY[HEADER.FIELDS (To)] {@to})
a S: OK
a C: FETCH 1 FLAGS
a S: * 1 FETCH (UID $u BODY[HEADER.FIELDS (To)] {"To: a\r\n\r\n"} ...)
a S: OK
-- to --
To: a

`,
		"search": `
a C: UID SEARCH ALL
a S: * ESEARCH (TAG "$tag") UID ALL 1,2:3 COUNT $_
a S: OK
`,
		"text":          "a C: BOGUS\na S: BAD ~\"expected\"\n",
		"explicit tag":  "a C! x1 \\x42OGUS\\r\\n\na S: x1 BAD\n",
		"status":        "a C: STATUS INBOX (SIZE)\na S: * STATUS INBOX (MESSAGES 3 UIDNEXT $_)\na S: OK\n",
		"literal":       "a C: EXAMINE {\"x\\\"y\"}\na S: OK [READ-ONLY]\na C: EXAMINE {\"x\\\"y\"+}\na S: OK [$_]\n",
		"close and eof": "b C: LOGOUT\nb S: * BYE\nb S: OK\na close\n",
		"raw with tag":  "a C! $tag BOGUS\\r\\n$tag NOOP\\r\\n\na S: BAD\na S: * 2 EXPUNGE\na S: OK\n",
		"held back":     "a C+ BOGUS\na C: BOGUS\na S: BAD\na S: BAD\n",
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.ReplaceAll(body, `"$tag"`, `$tag`)
			if r, err := runText(t, fakeAnswers, "needs: UIDPLUS\nseed: 2\n", body); err != nil {
				t.Errorf("%v\n%s", err, strings.Join(r.shown, "\n"))
			}
		})
	}
}

func TestScriptsThatFail(t *testing.T) {
	for name, c := range map[string]struct{ header, body, want string }{
		"stray expunge":       {"", "a C: NOOP\na S: OK\n", "2 EXPUNGE"},
		"stray at the end":    {"", "a C: CHECK\na S: OK\n", "does not expect"},
		"unread answer":       {"", "a C: NOOP\na S: * 2 EXPUNGE\n", "has not been answered"},
		"two spaces":          {"", "a C: FETCH 2 FLAGS\na S: ...\na S: OK\n", "two spaces"},
		"unwanted code":       {"", "a C: COPY 77\na S: OK\n", "COPYUID"},
		"missing code":        {"", "a C: X\na S: OK [$_]\n", "OK done"},
		"other numbers":       {"", "a C: COPY 77\na S: OK [COPYUID 78 1:3 4:7]\n", "COPYUID"},
		"variable differs":    {"", "a C: COPY 77\na S: OK [COPYUID $x 1:3 $x]\n", "COPYUID"},
		"relation":            {"", "a C: SELECT INBOX\na S: ...\na S: * OK [UIDVALIDITY $v]\na S: OK $_\n? $v > 77\n", "does not hold"},
		"missing flag":        {"", "a C: FETCH 1 FLAGS\na S: * 1 FETCH (FLAGS (\\Seen) ...)\na S: OK\n", "otherwise"},
		"capability missing":  {"needs: IDLE\n", "a C: X\na S: OK\n", "does not announce IDLE"},
		"capability declared": {"needs: MOVE\n", "a C: X\na S: OK\n", "left out: "},
		"text":                {"", "a C: BOGUS\na S: BAD ~\"literal\"\n", "otherwise"},
		"bytes":               {"", "a C: FETCH 1 FLAGS\na S: * 1 FETCH (BODY[HEADER.FIELDS (To)] {\"To: b\\r\\n\\r\\n\"} ...)\na S: OK\n", "otherwise"},
		"set is not a string": {"", "a C: LIST \"\" *\na S: ...\na S: * LIST (\\HasNoChildren) \"/\" \"B\"\na S: OK\n", "otherwise"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := runText(t, fakeAnswers, c.header, c.body)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q\n%s", err, c.want, strings.Join(r.shown, "\n"))
			}
		})
	}
}

func TestScriptsThatDoNotParse(t *testing.T) {
	for text, want := range map[string]string{
		"rfc: 1\na C: NOOP\n":                   "unknown header",
		"needs: X\n\na C: NOOP\n":               "no rfc",
		"rfc: 1\ncolour: red\n\na C: NOOP\n":    "unknown header",
		"rfc: 1\n\nab C: NOOP\n":                "letter",
		"rfc: 1\n\na X: NOOP\n":                 "after the connection",
		"rfc: 1\n\na S: * 1 FETCH (X\n":         "missing",
		"rfc: 1\n\na S: * 1 FETCH (X {@no})\n":  "no member",
		"rfc: 1\n\nunordered {\na S: OK\n":      "without }",
		"rfc: 1\n\nunordered {\na C: NOOP\n}\n": "S: lines",
		"rfc: 1\nseed: msg1\n\na C: NOOP\n":     "no member",
	} {
		if _, err := parseScript("x.txtar", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one with %q", text, err, want)
		}
	}
}

func TestUpdateKeepsVariables(t *testing.T) {
	const before = `rfc: 9051

a C: SELECT INBOX
a S: * 3 EXISTS
a S: * OK [UIDVALIDITY $v]
a S: OK [READ-ONLY] $_
# kept
a C: COPY $v
a S: OK
`
	const after = `rfc: 9051

a C: SELECT INBOX
a S: * 3 EXISTS
a S: * FLAGS (\Seen \Draft)
a S: * OK [UIDVALIDITY $v]
a S: OK [READ-WRITE]
# kept
a C: COPY $v
a S: OK [COPYUID 78 1:3 4:6]
`
	s, err := parseScript("x.txtar", []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(t, s, fakeServer(t, fakeAnswers))
	r.update = true
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := string(r.rewritten()); got != after || !r.changed {
		t.Errorf("got:\n%s", got)
	}
}

// What a script needs follows from what it does.
func TestRequires(t *testing.T) {
	for script, want := range map[string]string{
		"a C: NOOP":                                     "",
		"a C: UID STORE 1 +FLAGS (\\Seen)":              "FLAGS",
		"a C: STORE 1 FLAGS $Done":                      "FLAGS KEYWORDS",
		"a C: STORE 1 +FLAGS.SILENT (\\Deleted)":        "EXPUNGE FLAGS",
		"a C: UID EXPUNGE 1":                            "EXPUNGE",
		"a C: MOVE 1 Other":                             "APPEND EXPUNGE",
		"a C: APPEND INBOX {@m}":                        "APPEND",
		"a C: FETCH 1 BODY[]":                           "FLAGS EXACT",
		"a C: FETCH 1 BODY.PEEK[]":                      "EXACT",
		"a C: CREATE a/b\na C: DELETE a":                "CREATE HASCHILDREN",
		"a C: DELETE a":                                 "CREATE",
		"a C: LSUB \"\" *":                              "SUBSCRIBE",
		"restart":                                       "RESTART",
		"unordered {\na S: * OK [PERMANENTFLAGS ()]\n}": "FLAGS",
	} {
		s, err := parseScript("x.txtar", []byte("rfc: 9051\n\n"+script+"\n-- m --\nx\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.requires(&Target{}), " "); got != want {
			t.Errorf("%q requires %q, want %q", script, got, want)
		}
	}
}

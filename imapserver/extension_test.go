package imapserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapwire"
)

// command is a command without arguments.
func command(name string, run func(context.Context, *imapserver.Call) error) *imapserver.Command {
	return &imapserver.Command{Name: name, States: imapserver.AnyState, Parse: func(c *imapserver.Call, _ *imapwire.Decoder) imapserver.Run {
		return func(ctx context.Context) error { return run(ctx, c) }
	}}
}

// everything has something in each slot that an extension has.
func everything() *imapserver.Extension {
	return &imapserver.Extension{
		Name: "X-ALL", RFC: "-",
		Capabilities: []imapserver.Capability{
			{Name: "X-ALL"},
			{Name: "X-USER", When: func(c *imapserver.Conn) bool { return c.User() != "" }},
			{Name: "X-OPEN=", Value: func(s *imapserver.Server) string { return fmt.Sprint(len(s.Connections())) }},
		},
		Commands: []*imapserver.Command{{
			Name: "XECHO", Args: "SP astring", States: imapserver.LoggedIn, UID: true,
			Parse: func(c *imapserver.Call, d *imapwire.Decoder) imapserver.Run {
				d.SP()
				what := d.Astring()
				return func(context.Context) error {
					w := c.Writer()
					w.Raw("* XECHO ")
					w.String(what)
					w.CRLF()
					c.OK("XCODE", fmt.Sprintf("Echoed (UID: %v)", c.UID))
					return nil
				}
			},
		}},
		FetchItems: []*imapserver.FetchItem{{Name: "XTWICE", Att: &imapserver.FetchAtt{Write: func(w *imapwire.Encoder, m *imapserver.FetchMessage) error {
			w.Raw("XTWICE ")
			w.Number(2 * uint32(m.Row.UID))
			return nil
		}}}, {Name: "XLINES", Att: &imapserver.FetchAtt{Need: imapserver.NeedHeader, Write: func(w *imapwire.Encoder, m *imapserver.FetchMessage) error {
			w.Raw("XLINES ")
			w.Number(uint32(strings.Count(string(m.Header), "\n")))
			return nil
		}}}},
		FetchMods: []*imapserver.FetchModifier{{Name: "XNONE", Parse: func(_ *imapserver.Call, _ *imapwire.Decoder, opts *imapserver.FetchOptions) {
			opts.Before = append(opts.Before, func(_ context.Context, c *imapserver.Call, _ imap.NumSet) error {
				c.Writer().Raw("* OK before\r\n")
				return nil
			})
		}}},
		StoreMods: []*imapserver.StoreModifier{{Name: "XSTAR", Parse: func(_ *imapserver.Call, _ *imapwire.Decoder, opts *imapserver.StoreOptions) {
			opts.Flags = append(opts.Flags, "X-Star")
		}}},
		SearchKeys: []*imapserver.SearchKey{{Name: "XODD", Parse: func(*imapserver.Call, *imapwire.Decoder) imapserver.Matcher {
			return imapserver.Matcher{Row: func(m *imapserver.SearchMessage) bool { return m.Row.UID%2 == 1 }}
		}}, {Name: "XLONG", Parse: func(_ *imapserver.Call, d *imapwire.Decoder) imapserver.Matcher {
			d.SP()
			n := int64(d.Number())
			return imapserver.Matcher{Need: imapserver.NeedDigest, Match: func(_ *imapserver.SearchMessage, m *imapserver.Message) bool { return m.Digest.Size > n }}
		}}},
		SearchReturns: []*imapserver.SearchReturn{{Name: "XSUM", Write: func(w *imapwire.Encoder, r *imapserver.SearchResult) bool {
			sum := uint32(0)
			for i := range r.Positions {
				sum += r.Number(i)
			}
			w.Raw(" XSUM ")
			w.Number(sum)
			return true
		}}},
		StatusItems: []*imapserver.StatusItem{{Name: "XREAD", Write: func(w *imapwire.Encoder, m *imapserver.StatusMailbox) error {
			w.Number(m.Messages - m.Unseen)
			return nil
		}}},
		ListSelects: []*imapserver.ListSelect{{Name: "XINBOX", Match: func(m *imapserver.ListEntry) bool { return m.Name == "INBOX" }}},
		ListReturns: []*imapserver.ListReturn{{
			Name:  "XLEN",
			Attrs: func(m *imapserver.ListEntry, _ *imapserver.ListOptions) {},
			After: func(_ context.Context, c *imapserver.Call, m *imapserver.ListEntry, _ *imapserver.ListOptions) error {
				fmt.Fprintf(rawWriter{c.Writer()}, "* XLEN %d\r\n", len(m.Name))
				return nil
			},
		}},
		SelectParams: []*imapserver.SelectParam{{Name: "XTHEN", Parse: func(_ *imapserver.Call, _ *imapwire.Decoder, opts *imapserver.SelectOptions) {
			opts.Then = append(opts.Then, func(_ context.Context, c *imapserver.Call) error {
				c.Writer().Raw("* OK then\r\n")
				return nil
			})
		}}},
		CreateParams: []*imapserver.CreateParam{{Name: "XARCHIVE", Parse: func(_ *imapserver.Call, _ *imapwire.Decoder, opts *imapserver.CreateOptions) {
			opts.SpecialUse = append(opts.SpecialUse, `\Archive`)
		}}},
		AppendData: []*imapserver.AppendData{{Name: "XDATA", Parse: func(ctx context.Context, c *imapserver.Call, d *imapwire.Decoder, item *imapserver.AppendItem) error {
			if err := c.ReadMessage(ctx, d, item); err != nil {
				return err
			}
			item.Flags = append(item.Flags, imap.FlagFlagged)
			d.Byte(')')
			return d.Err()
		}}},
		Enables: []*imapserver.Enable{{Name: "X-LOUD", Run: func(c *imapserver.Conn) { c.SetValue(loud{}, true) }}},
		Mechanisms: []*imapserver.Mechanism{{Name: "X-TRUST", Start: func(_ context.Context, _ *imapserver.Conn, done func(string)) sasl.Server {
			return &trust{done}
		}}},
	}
}

type loud struct{}

// rawWriter writes text to a client.
type rawWriter struct{ w *imapwire.Encoder }

func (r rawWriter) Write(p []byte) (int, error) {
	r.w.RawBytes(p)
	return len(p), r.w.Err()
}

// trust asks for a name twice and believes it.
type trust struct{ done func(string) }

func (m *trust) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil:
		return []byte("who?"), false, nil
	case len(response) < 3:
		return nil, false, errors.New("too short")
	}
	m.done(string(response))
	return nil, true, nil
}

func TestExtension(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{everything()}})
	c := connect(t, srv)
	caps := strings.Fields(c.ok("CAPABILITY")[0])
	for word, want := range map[string]bool{"X-ALL": true, "X-USER": false, "X-OPEN=1": true, "AUTH=X-TRUST": true} {
		if slices.Contains(caps, word) != want {
			t.Errorf("%s announced: %v, want %v", word, !want, want)
		}
	}
	c.gets("XECHO hi", "BAD ")
	c.send("s AUTHENTICATE X-TRUST\r\n")
	c.want("+ d2hvPw==")
	c.send("YQ==\r\n")
	c.want("s NO [AUTHENTICATIONFAILED] ")
	c.send("s AUTHENTICATE X-TRUST YW5u\r\n")
	c.want("s OK [CAPABILITY ")
	caps = strings.Fields(c.ok("CAPABILITY")[0])
	if !slices.Contains(caps, "X-USER") || slices.Contains(caps, "AUTH=X-TRUST") {
		t.Errorf("after login: %q", caps)
	}
	if me := srv.Connections()[0]; me.User() != "ann" || me.Value(loud{}) != nil {
		t.Errorf("user %q, value %v", me.User(), me.Value(loud{}))
	}
	if got := c.ok("ENABLE X-LOUD X-SOFT"); got[0] != "* ENABLED X-LOUD" || srv.Connections()[0].Value(loud{}) != true {
		t.Errorf("ENABLE: %q", got)
	}
	for _, step := range []struct{ command, untagged, tagged string }{
		{`XECHO "hi you"`, `* XECHO "hi you"`, "OK [XCODE] Echoed (UID: false)"},
		{`uid xecho hi`, `* XECHO "hi"`, "OK [XCODE] Echoed (UID: true)"},
		{`XECHO`, ``, "BAD "},
		{`XECHO hi you`, ``, "BAD "},
		{"APPEND INBOX XDATA ({3+}\r\nabc)", "", "OK [APPENDUID "},
		{"APPEND INBOX {14+}\r\nSubject: b\r\n\r\n", "", "OK [APPENDUID "},
		{`STATUS INBOX (XREAD MESSAGES)`, `* STATUS INBOX (XREAD 0 MESSAGES 2)`, "OK "},
		{`LIST (XINBOX) "" * RETURN (XLEN)`, `* LIST (\HasNoChildren) "/" INBOX|* XLEN 5`, "OK "},
		{`CREATE Old (XARCHIVE)`, ``, "OK "},
		{`LIST (SPECIAL-USE) "" *`, `* LIST (\HasNoChildren \Archive) "/" Old`, "OK "},
		{`EXAMINE INBOX (XTHEN)`, `...|* OK then`, "OK [READ-ONLY]"},
		{`SELECT INBOX`, `...`, "OK [READ-WRITE]"},
		{`FETCH 1:2 (XTWICE FLAGS) (XNONE)`, `* OK before|* 1 FETCH (XTWICE 2 FLAGS (\Recent \Flagged))|* 2 FETCH (XTWICE 4 FLAGS (\Recent))`, "OK "},
		{`FETCH 2 XLINES`, `* 2 FETCH (XLINES 2)`, "OK "},
		{`STORE 1 (XSTAR) FLAGS (\Seen)`, `...|* 1 FETCH (FLAGS (\Recent \Seen X-Star))`, "OK "},
		{`SEARCH XODD`, `* SEARCH 1`, "OK "},
		{`SEARCH NOT XODD XLONG 5`, `* SEARCH 2`, "OK "},
		{`SEARCH RETURN (XSUM COUNT) ALL`, `* ESEARCH (TAG "$tag") COUNT 2 XSUM 3`, "OK "},
	} {
		untagged, tagged := c.do(step.command)
		got := strings.Join(untagged, "|")
		want := strings.ReplaceAll(step.untagged, "$tag", fmt.Sprintf("t%d", c.serial))
		end, open := strings.CutPrefix(want, "...")
		if open && !strings.HasSuffix(got, end) || !open && got != want || !strings.HasPrefix(tagged, step.tagged) {
			t.Errorf("%.60q:\n got %s, %s\nwant %s, %s", step.command, got, tagged, want, step.tagged)
		}
	}
}

// TestNewRefuses: contradictions are found when the server is made.
func TestNewRefuses(t *testing.T) {
	backend := memoryBackend(t)
	ext := func(name string, edit func(*imapserver.Extension)) *imapserver.Extension {
		e := &imapserver.Extension{Name: name, RFC: "-"}
		if edit != nil {
			edit(e)
		}
		return e
	}
	noop := command("noop", nil)
	att := &imapserver.FetchAtt{Write: func(*imapwire.Encoder, *imapserver.FetchMessage) error { return nil }}
	for name, test := range map[string]struct {
		opts imapserver.Options
		want string
	}{
		"extension without a name": {imapserver.Options{Extensions: []*imapserver.Extension{ext("", nil)}}, "Name"},
		"extension without an RFC": {imapserver.Options{Extensions: []*imapserver.Extension{{Name: "X"}}}, "RFC"},
		"the same extension twice": {imapserver.Options{Extensions: []*imapserver.Extension{ext("X", nil), ext("X", nil)}}, "twice"},
		"a built-in extension":     {imapserver.Options{Extensions: []*imapserver.Extension{ext("MOVE", nil)}}, "twice"},
		"a built-in command": {imapserver.Options{Extensions: []*imapserver.Extension{
			ext("X", func(e *imapserver.Extension) { e.Commands = append(e.Commands, noop) })}}, "NOOP"},
		"an item of both": {imapserver.Options{Extensions: []*imapserver.Extension{
			ext("X", func(e *imapserver.Extension) {
				e.FetchItems = append(e.FetchItems, &imapserver.FetchItem{Name: "XI", Att: att})
			}),
			ext("Y", func(e *imapserver.Extension) {
				e.FetchItems = append(e.FetchItems, &imapserver.FetchItem{Name: "xi", Att: att})
			})}}, "X and Y"},
		"unknown Without":       {imapserver.Options{Without: []string{"MOOVE"}}, "MOOVE"},
		"Without the protocol":  {imapserver.Options{Without: []string{"IMAP4rev1"}}, "IMAP4rev1"},
		"Without what is asked": {imapserver.Options{Without: []string{"CONDSTORE"}}, "QRESYNC"},
	} {
		_, err := imapserver.New(backend, users, test.opts)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := imapserver.New(nil, users, imapserver.Options{}); err == nil {
		t.Error("New without a back end")
	}
	if _, err := imapserver.New(backend, nil, imapserver.Options{}); err == nil {
		t.Error("New without an authenticator")
	}
	// An extension that is off takes no names.
	replaced := ext("MY-MOVE", func(e *imapserver.Extension) { e.Commands = append(e.Commands, command("MOVE", nil)) })
	if _, err := imapserver.New(backend, users, imapserver.Options{Without: []string{"MOVE", "IMAP4rev2"}, Extensions: []*imapserver.Extension{replaced}}); err != nil {
		t.Errorf("a replacement: %v", err)
	}
}

// TestWithout: what is left out is neither announced nor there.
func TestWithout(t *testing.T) {
	for name, gone := range map[string][]string{ // extension, then commands of it
		"MOVE":             {"MOVE 1 INBOX", "UID MOVE 1 INBOX"},
		"IDLE":             {"IDLE"},
		"COMPRESS=DEFLATE": {"COMPRESS DEFLATE"},
		"NAMESPACE":        {"NAMESPACE"},
		"ID":               {"ID NIL"},
		"UNSELECT":         {"UNSELECT"},
		"STATUS=SIZE":      {"STATUS INBOX (SIZE)"},
		"BINARY":           {"FETCH 1 BINARY[1]"},
		"QRESYNC":          {"SELECT INBOX (QRESYNC (1 1))"},
		"OBJECTID":         {"FETCH 1 EMAILID", "SEARCH EMAILID M1"},
		"SAVEDATE":         {"FETCH 1 SAVEDATE"},
		"PREVIEW":          {"FETCH 1 PREVIEW"},
		"WITHIN":           {"SEARCH OLDER 5"},
		"MULTIAPPEND":      {"APPEND INBOX {1+}\r\na {1+}\r\nb"},
		"LITERAL+":         nil,
		"UTF8=ACCEPT":      {"APPEND INBOX UTF8 (~{1+}\r\na)"},
		"LIST-STATUS":      {`LIST "" * RETURN (STATUS (MESSAGES))`},
		"SPECIAL-USE":      {`LIST (SPECIAL-USE) "" *`},
		"SEARCHRES":        {"SEARCH RETURN (SAVE) ALL"},
		"AUTH=PLAIN":       nil,
		"SASL-IR":          nil,
		"IMAP4rev2":        nil,
		"APPENDLIMIT":      {"STATUS INBOX (APPENDLIMIT)"},
	} {
		t.Run(name, func(t *testing.T) {
			without := []string{name}
			if name != "IMAP4rev2" {
				without = append(without, "IMAP4rev2") // which promises most of them
			}
			srv := memoryServer(t, imapserver.Options{Without: without})
			c := connect(t, srv)
			before := c.ok("CAPABILITY")[0]
			c.ok("LOGIN ann secret")
			for _, line := range []string{before, c.ok("CAPABILITY")[0]} {
				for _, word := range strings.Fields(line) {
					if word == name || strings.HasPrefix(word, name+"=") {
						t.Errorf("announced in %s", line)
					}
				}
			}
			c.appendTo("INBOX", hello)
			c.ok("SELECT INBOX")
			for _, cmd := range gone {
				c.gets(cmd, "BAD ")
			}
			// What is there all the same works without it.
			c.ok("ENABLE IMAP4rev2 CONDSTORE QRESYNC UTF8=ACCEPT")
			c.ok("FETCH 1 (FLAGS BODY[TEXT])")
			c.ok("UID STORE 1 +FLAGS (\\Deleted)")
			c.ok("SEARCH ALL")
			c.ok("EXPUNGE")
		})
	}
}

package imapserver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapwire"
)

// TestNewChecksSlots: what would be a panic or a broken line later is refused
// when the server is made, with words that say where it is.
func TestNewChecksSlots(t *testing.T) {
	backend := memoryBackend(t)
	run := func(*imapserver.Call, *imapwire.Decoder) imapserver.Run { return nil }
	for want, e := range map[string]*imapserver.Extension{
		"is nil":                                nil,
		`capability "X A"`:                      {Capabilities: []imapserver.Capability{{Name: "X A"}}},
		`capability "X\r\nA"`:                   {Capabilities: []imapserver.Capability{{Name: "X\r\nA"}}},
		`capability ""`:                         {Capabilities: []imapserver.Capability{{}}},
		"both have the capability IDLE":         {Capabilities: []imapserver.Capability{{Name: "idle"}}},
		"both have the capability AUTH=PLAIN":   {Capabilities: []imapserver.Capability{{Name: "AUTH=PLAIN"}}},
		"both have the capability APPENDLIMIT=": {Capabilities: []imapserver.Capability{{Name: "APPENDLIMIT=", Value: func(*imapserver.Server) string { return "5" }}}},
		"command 0 is nil":                      {Commands: []*imapserver.Command{nil}},
		"command XA needs Parse":                {Commands: []*imapserver.Command{{Name: "XA", States: imapserver.AnyState}}},
		"command XB needs States":               {Commands: []*imapserver.Command{{Name: "XB", Parse: run}}},
		`command "X(" must`:                     {Commands: []*imapserver.Command{{Name: "X(", States: imapserver.AnyState, Parse: run}}},
		"FETCH item XA needs Att or Parse":      {FetchItems: []*imapserver.FetchItem{{Name: "XA"}}},
		"FETCH item XA needs Att.Write":         {FetchItems: []*imapserver.FetchItem{{Name: "XA", Att: &imapserver.FetchAtt{}}}},
		`FETCH item "XA["`:                      {FetchItems: []*imapserver.FetchItem{{Name: "XA[", Att: &imapserver.FetchAtt{}}}},
		"FETCH modifier XA needs Parse":         {FetchMods: []*imapserver.FetchModifier{{Name: "XA"}}},
		"STORE modifier XA needs Parse":         {StoreMods: []*imapserver.StoreModifier{{Name: "XA"}}},
		"SEARCH key XA needs Parse":             {SearchKeys: []*imapserver.SearchKey{{Name: "XA"}}},
		"SEARCH return option 0 is nil":         {SearchReturns: []*imapserver.SearchReturn{nil}},
		"STATUS item XA needs Write":            {StatusItems: []*imapserver.StatusItem{{Name: "XA"}}},
		`LIST selection option "é"`:             {ListSelects: []*imapserver.ListSelect{{Name: "é"}}},
		`LIST return option ""`:                 {ListReturns: []*imapserver.ListReturn{{}}},
		"SELECT parameter XA needs Parse":       {SelectParams: []*imapserver.SelectParam{{Name: "XA"}}},
		"CREATE parameter XA needs Parse":       {CreateParams: []*imapserver.CreateParam{{Name: "XA"}}},
		"APPEND data XA needs Parse":            {AppendData: []*imapserver.AppendData{{Name: "XA"}}},
		"ENABLE word XA needs Run":              {Enables: []*imapserver.Enable{{Name: "XA"}}},
		"SASL mechanism XA needs Start":         {Mechanisms: []*imapserver.Mechanism{{Name: "XA"}}},
		"requires MOOVE":                        {Requires: []string{"MOOVE"}},
	} {
		if e != nil {
			e.Name, e.RFC = "X-WRONG", "-"
		}
		_, err := imapserver.New(backend, users, imapserver.Options{Extensions: []*imapserver.Extension{e}})
		if err == nil || !strings.Contains(err.Error(), want) || e != nil && !strings.Contains(err.Error(), "X-WRONG") {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// TestShortIdle: clients may be silent for half an hour.
func TestShortIdle(t *testing.T) {
	backend := memoryBackend(t)
	for limits, want := range map[imapserver.Limits]bool{
		{}:                       true,
		{Idle: -1}:               true,
		{Idle: 30 * time.Minute}: true,
		{Idle: 29 * time.Minute}: false,
		{Idle: time.Nanosecond}:  false,
		{Idle: time.Minute, AllowShortIdle: true}: true,
	} {
		_, err := imapserver.New(backend, users, imapserver.Options{Limits: limits})
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "5.4") {
			t.Errorf("%v: %v", limits.Idle, err)
		}
	}
}

// TestMisuse: what only turns out when a client comes is the server's bug, and
// logged with the name of what is wrong.
func TestMisuse(t *testing.T) {
	nothing := &imapserver.Extension{
		Name: "X-NOTHING", RFC: "-",
		Commands: []*imapserver.Command{
			{Name: "XNONE", States: imapserver.AnyState, Parse: func(*imapserver.Call, *imapwire.Decoder) imapserver.Run { return nil }},
			{Name: "XSTREAM", States: imapserver.AnyState, Stream: true, Parse: func(*imapserver.Call, *imapwire.Decoder) imapserver.Run { return nil }},
		},
		SearchKeys: []*imapserver.SearchKey{{Name: "XKEY", Parse: func(*imapserver.Call, *imapwire.Decoder) imapserver.Matcher {
			return imapserver.Matcher{Need: imapserver.NeedBody}
		}}},
		FetchItems: []*imapserver.FetchItem{
			{Name: "XITEM", Parse: func(*imapserver.Call, *imapwire.Decoder, *imapserver.FetchOptions) (*imapserver.FetchAtt, error) {
				return nil, nil
			}},
		},
		Mechanisms: []*imapserver.Mechanism{{Name: "X-NIL", Start: func(context.Context, *imapserver.Conn, func(string)) sasl.Server { return nil }}},
	}
	var log logBook
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{nothing}, Log: log.logger()})
	c := connect(t, srv)
	c.gets("AUTHENTICATE X-NIL", "NO [SERVERBUG]")
	c.ok("LOGIN ann secret")
	c.appendTo("INBOX", hello)
	c.ok("SELECT INBOX")
	for _, cmd := range []string{"XNONE", "XSTREAM", "XSTREAM a b c", "SEARCH XKEY", "SEARCH NOT (SEEN OR XKEY XKEY)", "FETCH 1 XITEM", "FETCH 1 (XITEM UID)"} {
		start := len(log.String())
		if got := c.gets(cmd, "NO [SERVERBUG]"); len(got) > 0 {
			t.Errorf("%s: %q", cmd, got)
		}
		if text := log.String()[start:]; !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "returned") {
			t.Errorf("%s: the log says %s", cmd, text)
		}
	}
	c.gets("FETCH 1 (XITEM", "BAD ")
	c.gets("XNONE x", "BAD ")
	c.ok("NOOP")
}

package imapmodel_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/memory"
)

// restartable is a server over a model that stays while the server is
// restarted, as a model with data of its own does.
type restartable struct {
	t     testing.TB
	model imapmodel.Model
	opts  imapmodel.Options

	mu      sync.Mutex
	backend *imapmodel.Backend
	server  *imapserver.Server
}

func (r *restartable) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		r.server.Close()
		r.backend.Close()
	}
	var err error
	if r.backend, err = imapmodel.New(r.model, r.opts); err != nil {
		return err
	}
	users := imapserver.Passwords{"ann": "secret", "bob": "hidden"}
	r.server, err = imapserver.New(r.backend, users, imapserver.Options{InsecureAuth: true, Log: quiet()})
	return err
}

func (r *restartable) dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return imaptest.Pipe(r.server.ServeConn)(ctx)
}

func target(features imapmodel.Features, restarts bool) imaptest.Target {
	tt := imaptest.Target{
		Lacks: []string{"PLAIN-PORT"},
		New: func(t testing.TB) *imaptest.Server {
			r := &restartable{
				t: t, model: &counting{Model: memory.New(), features: features},
				opts: imapmodel.Options{State: &imapmodel.MemoryState{}, Log: quiet(), IdleInterval: 1},
			}
			if err := r.start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.server.Close(); r.backend.Close() })
			s := &imaptest.Server{
				Dial:  r.dial,
				Users: []imaptest.User{{Name: "ann", Password: "secret"}, {Name: "bob", Password: "hidden"}},
			}
			if restarts {
				s.Restart = func(context.Context) error { return r.start() }
			}
			return s
		},
	}
	return tt
}

// The same promises are kept whatever a model can do itself.
func TestConformance(t *testing.T) {
	watching := memory.New().Features()
	for name, features := range map[string]imapmodel.Features{
		"watching": watching,
		"polled":   watching &^ imapmodel.FeatureWatch,
		"native":   watching | imapmodel.FeatureCopy | imapmodel.FeatureMove,
	} {
		t.Run(name, func(t *testing.T) {
			imaptest.Run(t, target(features, true))
		})
	}
}

// A model that can do less is held to the rest.
func TestConformanceOfLess(t *testing.T) {
	readOnly := []string{"APPEND", "EXPUNGE", "FLAGS", "KEYWORDS", "CREATE", "HASCHILDREN", "SUBSCRIBE", "PLAIN-PORT"}
	for _, test := range []struct {
		name     string
		features imapmodel.Features
		lacks    []string
	}{
		{"read-only", imapmodel.FeatureWatch, append(readOnly, "MOVE", "MULTIAPPEND", "CREATE-SPECIAL-USE", "SPECIAL-USE", "BINARY", "UTF8=ACCEPT", "APPENDLIMIT", "LITERAL-")},
		{"no flags", allFeatures &^ imapmodel.FeatureFlags, []string{"FLAGS", "KEYWORDS", "PLAIN-PORT", "CREATE-SPECIAL-USE", "SPECIAL-USE", "UTF8=ACCEPT"}},
		{"no mailboxes", allFeatures &^ (imapmodel.FeatureMailboxes | imapmodel.FeatureSubscribe), []string{"CREATE", "HASCHILDREN", "SUBSCRIBE", "PLAIN-PORT", "CREATE-SPECIAL-USE", "SPECIAL-USE", "UTF8=ACCEPT"}},
		{"no removing", allFeatures &^ (imapmodel.FeatureRemove | imapmodel.FeatureMove), []string{"EXPUNGE", "MOVE", "PLAIN-PORT", "CREATE-SPECIAL-USE", "SPECIAL-USE", "UTF8=ACCEPT"}},
		{"no appending", allFeatures &^ (imapmodel.FeatureAppend | imapmodel.FeatureCopy | imapmodel.FeatureMove), []string{"APPEND", "MOVE", "MULTIAPPEND", "PLAIN-PORT", "CREATE-SPECIAL-USE", "SPECIAL-USE", "UTF8=ACCEPT", "APPENDLIMIT", "BINARY"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tt := target(test.features, true)
			tt.Lacks = test.lacks
			imaptest.Run(t, tt)
		})
	}
}

// quirky shows other names to a client that cannot take colons.
type quirky struct{ *memory.Model }

func (q quirky) Mailboxes(ctx context.Context, user string) ([]imapmodel.Mailbox, error) {
	name := "a:b"
	if c := imapserver.ConnFrom(ctx); c != nil && c.ClientID()["name"] == "Zimbra" {
		name = "a-b"
	}
	return []imapmodel.Mailbox{{Name: "INBOX"}, {Name: name}}, nil
}

func (quirky) Features() imapmodel.Features { return 0 }

func TestModelKnowsItsClient(t *testing.T) {
	tt := target(0, false)
	tt.Transcripts = fstest.MapFS{"client-id.txtar": {Data: []byte(`rfc: 2971
# What the client says of itself reaches the model.

a C: LIST "" a%
a S: * LIST (...) "/" a:b
a S: OK
a C: ID ("name" "Zimbra")
a S: * ID $_
a S: OK
a C: LIST "" a%
a S: * LIST (...) "/" a-b
a S: OK
`)}}
	tt.New = func(t testing.TB) *imaptest.Server {
		r := &restartable{t: t, model: quirky{memory.New()}, opts: imapmodel.Options{Log: quiet()}}
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.server.Close(); r.backend.Close() })
		return &imaptest.Server{Dial: r.dial, Users: []imaptest.User{{Name: "ann", Password: "secret"}}}
	}
	imaptest.Run(t, tt)
}

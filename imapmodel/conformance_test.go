package imapmodel_test

import (
	"context"
	"net"
	"sync"
	"testing"

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

func (r *restartable) dial(context.Context) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ours, theirs := net.Pipe()
	go r.server.ServeConn(context.Background(), theirs)
	return ours, nil
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
			imaptest.Random(t, target(features, true), imaptest.RandomOptions{Restarts: true})
			imaptest.Concurrent(t, target(features, false), imaptest.RandomOptions{})
		})
	}
}

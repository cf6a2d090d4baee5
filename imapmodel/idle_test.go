package imapmodel_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/memory"
)

// lingering is a model whose listings, once told to linger, end a little after
// their context has.
type lingering struct {
	*memory.Model
	on      atomic.Bool
	entered chan struct{}
	inside  atomic.Int32
}

func (l *lingering) Features() imapmodel.Features {
	return l.Model.Features() &^ imapmodel.FeatureWatch
}

func (l *lingering) Messages(ctx context.Context, user, mailbox string) ([]imapmodel.Message, error) {
	if l.on.CompareAndSwap(true, false) {
		l.inside.Add(1)
		defer l.inside.Add(-1)
		close(l.entered)
		<-ctx.Done()
		time.Sleep(20 * time.Millisecond)
	}
	return l.Model.Messages(context.WithoutCancel(ctx), user, mailbox)
}

// A look that goes on after its session has ended could save a state that is
// older than what the next session has saved.
func TestIdleLookEndsWithItsSession(t *testing.T) {
	l := &lingering{Model: memory.New(imapmodel.Mailbox{Name: "INBOX"}), entered: make(chan struct{})}
	b, err := imapmodel.New(l, imapmodel.Options{State: &imapmodel.MemoryState{}, IdleInterval: 1, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	account, err := b.Open(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	mailbox, err := account.Mailbox(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	stop := mailbox.Watch(func() {})
	l.on.Store(true)
	<-l.entered
	stop()
	if n := l.inside.Load(); n != 0 {
		t.Errorf("%d listings go on after the watch was stopped", n)
	}
	mailbox.Close()
	account.Close()
}

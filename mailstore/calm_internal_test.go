package mailstore

import (
	"testing"
	"time"
)

// TestCalm: what a restart has left to build waits while somebody comes again and
// again, though not for ever, and not where it is asked for.
func TestCalm(t *testing.T) {
	calm := func(b *deriveBench) time.Duration {
		b.a.mu.Lock()
		defer b.a.mu.Unlock()
		return b.a.calmFor()
	}
	b := newTextBox(t, Options{DeriveDelay: time.Hour})
	if wait := calm(b); wait != 0 {
		t.Fatalf("an account without mail waits for %v", wait)
	}
	b.append(0, 3)
	b.close()
	b.openWith(Options{DeriveDelay: time.Hour})
	if wait := calm(b); wait < time.Hour || wait > calmDelay*time.Hour {
		t.Fatalf("an account with mail waits for %v", wait)
	}
	b.a.mu.Lock()
	b.a.deriving.calm = time.Now().Add(time.Minute)
	b.a.mu.Unlock()
	m, err := b.a.Mailbox(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if wait := calm(b); wait < time.Hour {
		t.Fatalf("right after a visit it waits for %v", wait)
	}
	b.a.mu.Lock()
	b.a.deriving.calmEnd = time.Now().Add(time.Minute)
	b.a.visited()
	b.a.mu.Unlock()
	if wait := calm(b); wait > time.Minute {
		t.Fatalf("visits make it wait for %v, longer than it may", wait)
	}
	b.a.RebuildIndex()
	if wait := calm(b); wait != 0 {
		t.Fatalf("what is asked for waits for %v", wait)
	}
}

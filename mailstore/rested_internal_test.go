package mailstore

import (
	"testing"
	"time"
)

// TestRested: who wants to know is told when much has been built, and not of little.
func TestRested(t *testing.T) {
	rested := make(chan struct{}, 100)
	b := newTextBox(t, Options{DeriveDelay: 1, Rested: func() { rested <- struct{}{} }})
	b.append(0, 3)
	b.settle()
	select {
	case <-rested:
		t.Fatal("told of three messages")
	case <-time.After(50 * time.Millisecond):
	}
	b.store.built.Store(restedBytes)
	b.append(3, 4)
	select {
	case <-rested:
	case <-time.After(time.Minute):
		t.Fatal("not told of much that was built")
	}
	if n := b.store.built.Load(); n >= restedBytes {
		t.Fatalf("%d bytes are still counted", n)
	}
}

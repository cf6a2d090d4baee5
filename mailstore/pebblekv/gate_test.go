package pebblekv_test

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/internal/crashfs"
)

// A gate holds back every sync until open is closed.
type gate struct {
	once          sync.Once
	reached, open chan struct{}
}

func newGate() *gate {
	return &gate{reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) hold(op errorfs.Op) error {
	if crashfs.Syncs(op) {
		g.once.Do(func() { close(g.reached) })
		<-g.open
	}
	return nil
}

package imapserver_test

import (
	"runtime"
	"testing"
	"weak"

	"github.com/rookery-mail/rookery/imapserver"
)

// TestClosedServerIsCollected: nothing keeps a server, and the store below it,
// when it has been closed.
func TestClosedServerIsCollected(t *testing.T) {
	var closed weak.Pointer[imapserver.Server]
	t.Run("served", func(t *testing.T) { // its Cleanup closes the server
		srv := memoryServer(t, imapserver.Options{})
		closed = weak.Make(srv)
		c := login(t, srv)
		c.ok("SELECT INBOX")
		c.ok("LOGOUT")
		c.wantEnd()
	})
	until(t, "the server is collected", func() bool {
		runtime.GC()
		return closed.Value() == nil
	})
}

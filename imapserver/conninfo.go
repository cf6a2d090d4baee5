package imapserver

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// ConnInfo describes a connection at one moment.
type ConnInfo struct {
	ID         uint64
	Addr       netip.Addr // zero where the transport has none
	User       string     // "" before login
	State      States
	Mailbox    string // selected, UTF-8
	ReadOnly   bool
	Secure     bool // TLS
	Compressed bool
	Idling     bool
	ClientID   map[string]string // what the client said of itself (RFC 2971)
	Commands   int               // how many it has given
	Started    time.Time
	LastActive time.Time // when it gave its last command
}

// connInfo keeps what Info tells, so that asking never waits for a command.
type connInfo struct {
	mu  sync.Mutex
	now ConnInfo
}

func (i *connInfo) init(c *Conn) {
	now := c.srv.now()
	i.now = ConnInfo{ID: c.id, Addr: c.addr, State: NotAuthenticated, Secure: c.transport.secure, Started: now, LastActive: now}
}

func (i *connInfo) set(f func(*ConnInfo)) {
	i.mu.Lock()
	f(&i.now)
	i.mu.Unlock()
}

// noteState brings Info up to date after a change of state. mu is held.
func (c *Conn) noteState() {
	c.info.set(func(i *ConnInfo) {
		i.User, i.State = c.login.user, c.state()
		i.Secure, i.Compressed = c.transport.secure, c.transport.compressed
		i.Mailbox, i.ReadOnly = "", false
		if c.sel != nil {
			i.Mailbox, i.ReadOnly = c.sel.name, c.sel.readOnly
		}
	})
}

// Info describes the connection as it is now. It does not wait.
func (c *Conn) Info() ConnInfo {
	c.info.mu.Lock()
	defer c.info.mu.Unlock()
	i := c.info.now
	i.Idling = c.idling.Load()
	i.ClientID = maps.Clone(i.ClientID)
	return i
}

// Server returns the server that the connection belongs to.
func (c *Conn) Server() *Server { return c.srv }

// User returns who is logged in, or "".
func (c *Conn) User() string { return c.Info().User }

// ClientID returns what the client said of itself with ID (RFC 2971).
func (c *Conn) ClientID() map[string]string { return c.Info().ClientID }

// Value returns what SetValue has stored under key, or nil.
func (c *Conn) Value(key any) any {
	c.info.mu.Lock()
	defer c.info.mu.Unlock()
	return c.values[key]
}

// SetValue keeps something for an extension or a hook as long as the connection
// lives. Use a key of a type of your own, as with context.WithValue.
func (c *Conn) SetValue(key, value any) {
	c.info.mu.Lock()
	defer c.info.mu.Unlock()
	if c.values == nil {
		c.values = map[any]any{}
	}
	c.values[key] = value
}

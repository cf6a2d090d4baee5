package imapserver

import "context"

type connKey struct{}

// connContext is the context of what a connection does. It is a part of Conn,
// since every idle connection has one.
type connContext struct {
	context.Context
	c *Conn
}

// Value implements context.Context.
func (ctx *connContext) Value(key any) any {
	if key == (connKey{}) {
		return ctx.c
	}
	return ctx.Context.Value(key)
}

// ConnFrom returns the connection that a call to a back end, a model or an
// authenticator was made for, and nil where it was made for none, as when a
// mailbox is looked at for all who wait. It lets a model know its client: by
// address, or by what the client said of itself (Conn.ClientID).
func ConnFrom(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

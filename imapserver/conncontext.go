package imapserver

import "context"

type connKey struct{}

// ConnFrom returns the connection that a call to a back end, a model or an
// authenticator was made for, and nil where it was made for none, as when a
// mailbox is looked at for all who wait. It lets a model know its client: by
// address, or by what the client said of itself (Conn.ClientID).
func ConnFrom(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// Package imapserver is the protocol engine: connections, what each session has
// been told, commands and extensions of IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC
// 9051). A Server is made by New from a Backend, which keeps the mail, and an
// Authenticator, which knows the users.
//
// It keeps nothing itself, and it is no way to put a list of one's own behind
// IMAP quickly: that is package imapmodel, which makes a Backend of about ten
// short methods, or package memory, a model that is there already.
//
// Start with New and Options; Extension has the slots for commands, FETCH items,
// SASL mechanisms and the rest, of this package and of yours; Backend is the
// seam below. A command's way through the engine is told in ARCHITECTURE.md,
// and begins at Conn.serveCommand.
package imapserver

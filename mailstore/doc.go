// Package mailstore keeps mail: accounts, their mailboxes, and messages with
// UIDs, flags, mod-sequences and threads, in a key-value store and a blob
// store (package driver). The rules of mail live here, once, above all
// engines; the syntax of IMAP does not.
//
// Whatever an operation has reported is durable. Changes that wait on one
// account are gathered into one transaction, and nothing is shown to anyone
// before its commit has returned. Readers take immutable snapshots (package
// mailindex) and wait for nobody.
//
// Start with [Open], [Store.Account] and [Account.Mailbox]. The layout of keys
// is in layout.go, the queue of changes in commit.go; docs/design has the
// reasons.
package mailstore

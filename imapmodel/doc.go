// Package imapmodel puts data of your own behind IMAP. You write a [Model]:
// four short methods that list mailboxes and messages and open a message's
// text, and, where clients may change things, a few more of one or two methods
// each. [New] makes a complete back end of it for imapserver.
//
// What IMAP asks of a server and your data has never heard of is derived here,
// by comparing what the model lists now with what it listed before: UIDs,
// modification sequences, the history of expunges (so CONDSTORE and QRESYNC
// work), object identifiers, unseen and recent counts, messages that one client
// may still read after another has expunged them. These things live in RAM, or,
// with a [State], over restarts too.
//
// Start with [Model]; then look at the optional interfaces behind [Features],
// and at [Compose] if your data has no text in the form of RFC 5322. Package
// memory is a model in RAM to embed and override; the programs under examples
// are models that you can read in a minute.
//
// It is not for large mail stores: listing a mailbox costs time in proportion
// to its messages whenever it may have changed. Implement imapserver.Backend
// for that, as imapstore does.
package imapmodel

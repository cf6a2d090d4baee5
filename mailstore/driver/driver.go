// Package driver is the contract between mailstore, which knows the rules of
// mail, and the engines that keep bytes: an ordered key-value store with
// transactions per account (KV), and a store for immutable messages (Blobs).
//
// The contract is the smallest one that can be met by an embedded engine, by
// PostgreSQL (or a database that speaks its protocol), by FoundationDB or TiKV,
// and by an object store for the blobs. It therefore assumes neither a single
// process nor cheap reads, and says exactly what a caller may rely on. Package
// drivertest proves an engine; start there when you write one.
//
// Application code does not use this package: it uses mailstore.
package driver

import (
	"context"
	"io"
)

// An Account names the space in which keys are ordered and transactions are
// serialised. Account 0 is the store's own (the directory of accounts, the
// format version); the others are given out by mailstore and never reused.
type Account uint64

// KV is an ordered key-value store whose keys belong to accounts.
// All methods are safe for concurrent use.
type KV interface {
	// View calls fn with a consistent view of the account as of some moment
	// after every Update that had returned when View was called. Slices given
	// to fn are valid only until fn returns. fn must not call Update.
	View(ctx context.Context, a Account, fn func(Reader) error) error

	// Update calls fn with a transaction on one account and, when fn returns
	// nil, commits it. When Update returns nil the change is durable and
	// visible to every later View on every node; when it returns an error,
	// nothing of it is visible, now or later, except as ErrUnknown says.
	//
	// Transactions on one account happen one after the other; on different
	// accounts they do not wait for each other, and commits that happen at the
	// same time share one sync. fn sees its own writes. fn may be run again
	// when the engine meets a conflict, so it must not keep anything from a
	// run that failed. A transaction is bounded: engines may refuse more than
	// MaxTxnBytes of keys and values, or one that takes longer than five
	// seconds.
	//
	// Errors: the error of fn, unwrapped; ctx's error when it ended before the
	// commit began; ErrUnknown (wrapped) when the engine cannot tell whether
	// the commit happened; an *imap.Error of kind Unavailable when the engine
	// cannot write now (disk full, connection lost), of kind Limit when the
	// transaction is larger than the engine takes.
	Update(ctx context.Context, a Account, fn func(Txn) error) error

	// Watch arranges for wake to be called, soon but at no promised time, after
	// another process has committed to the account. It is only a hint: calls
	// may come late, twice or not at all, and the truth is a counter that
	// mailstore keeps in the account. wake must not block. stop ends it.
	// An engine that is owned by one process may do nothing.
	Watch(a Account, wake func()) (stop func())

	// Close waits for running transactions and closes the store. Later calls
	// give an *imap.Error of kind Closed.
	Close() error
}

// MaxTxnBytes bounds the keys and values that one transaction writes.
const MaxTxnBytes = 8 << 20

// Reader reads one account.
type Reader interface {
	// Get returns the value of key and whether it exists. The slice is valid
	// until the transaction ends and must not be changed.
	Get(key []byte) (value []byte, ok bool, err error)

	// Scan calls fn for each key in [from, to) in ascending order of bytes,
	// until fn returns false. A nil to means the end of the account. The slices
	// are valid only until fn returns. fn must not write, but may Get and Scan.
	Scan(from, to []byte, fn func(key, value []byte) bool) error
}

// Txn reads and writes one account.
type Txn interface {
	Reader
	// Set and Delete copy what they are given. Deleting what is not there is
	// not an error.
	Set(key, value []byte) error
	Delete(key []byte) error
	// DeleteRange deletes the keys in [from, to). A nil to means the end of the
	// account.
	DeleteRange(from, to []byte) error
}

// CheckedAtOpen is the length of content in bytes up to which Blobs.Open
// compares a blob with its checksums at once.
const CheckedAtOpen = 64 << 10

// A Ref names a blob for good: it stays valid when the engine moves the bytes.
// Refs are given out per account and are never reused; 0 is no blob.
type Ref uint64

// Blobs stores immutable messages, each once per account. mailstore names a
// blob in the KV only after it is durable, and tells the engine when it no
// longer names it; between the two the blob is pinned by its Writer.
// All methods are safe for concurrent use.
type Blobs interface {
	// Create begins a blob of the account. size is the number of bytes that
	// will be written (Finish fails when it was not), or -1 where it is not
	// known. The Writer outlives ctx, which ends only a wait: where other Writers
	// of the account hold what it needs, its Write may then return ctx's error.
	// Writers that nobody goes on with hold up no other account, however many
	// there are.
	Create(ctx context.Context, a Account, size int64) (Writer, error)

	// Sync makes every blob durable whose Writer.Finish had returned before
	// Sync was called. Calls that wait at the same time share one sync.
	Sync(ctx context.Context) error

	// Open opens a blob for reading. An open blob stays readable until it is
	// closed, even when it is deleted or moved meanwhile. The error is an
	// *imap.Error of kind NotFound for a blob that does not exist. One whose
	// checksum does not match gives kind Corruption, here or, where the blob is
	// longer than CheckedAtOpen, from the ReadAt that meets the damage; bytes that were not checked
	// are never returned.
	Open(ctx context.Context, a Account, ref Ref) (Blob, error)

	// Delete says that the account names these blobs no more; the bytes are
	// taken back some time later. It must be called after the KV transaction
	// that removed the last name has been committed. Deletes that are lost in a
	// crash are found again by Sweep. Unknown refs are ignored.
	//
	// A blob that is pinned goes when its Writer is released. Unless the disk
	// fails, its Delete is not lost in a crash: mailstore gives up like that what it
	// has refused, and a repair that has no index must not take it for mail.
	Delete(ctx context.Context, a Account, refs []Ref) error

	// Sweep deletes every blob of the account that was finished and no longer
	// pinned when Sweep was called and for which named returns false. named
	// must therefore know every name that was committed before the call.
	Sweep(ctx context.Context, a Account, named func(Ref) bool) error

	// List calls fn for each live blob of the account in no particular order,
	// until fn returns an error, which List then returns. BlobInfo.Meta is valid
	// only until fn returns.
	List(ctx context.Context, a Account, fn func(Ref, BlobInfo) error) error

	// Skip says that Refs up to used may have been given out, whatever the engine
	// remembers: Refs that it gives out from now on are greater. mailstore calls
	// it when it opens a store, before the first Create. So an engine that has
	// lost its newest part (a file, or an older copy was put back) does not give
	// to a new blob a Ref by which the KV names a lost one.
	Skip(ctx context.Context, used Ref) error

	// Close waits for background work and closes the store.
	Close() error
}

// BlobInfo describes a blob.
type BlobInfo struct {
	Size int64 // bytes of content
	Meta []byte
}

// A Writer writes one blob. It is used by one goroutine at a time.
type Writer interface {
	io.Writer
	// Finish ends the writing and gives the blob its Ref. meta is a short
	// description (up to 4 kB) that lets the index be rebuilt; it is kept with
	// the blob. The blob is not durable before a Sync, and stays pinned until
	// Release.
	Finish(meta []byte) (Ref, error)
	// ReadAt reads back what has been written so far, before or after Finish,
	// until Release.
	io.ReaderAt
	// Release ends the pin and frees what the Writer holds; every Writer must
	// be released. A blob that has not been finished is gone at once; one that
	// the KV does not name by now is found by the next Sweep. Release may be
	// called twice.
	Release()
}

// Blob is an open blob. ReadAt may be called by several goroutines at once.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64 // of the content, in bytes
}

// Error kinds are those of package imap; ErrUnknown is the engine's own.
type sentinel string

func (s sentinel) Error() string { return string(s) }

// ErrUnknown is in the chain of an error after which nobody can say whether a
// commit happened. mailstore then reads the account again before it says
// anything to anyone.
const ErrUnknown = sentinel("driver: the outcome of the commit is not known")

package memkv

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Blobs is a driver.Blobs in memory.
type Blobs struct {
	mu       sync.Mutex
	accounts map[driver.Account]map[driver.Ref]*stored
	last     driver.Ref
	closed   bool
}

var _ driver.Blobs = (*Blobs)(nil)

type stored struct {
	data, meta []byte
	pinned     bool
	deleted    bool // deleted while pinned: goes when the pin does
}

// NewBlobs returns an empty store.
func NewBlobs() *Blobs {
	return &Blobs{accounts: make(map[driver.Account]map[driver.Ref]*stored)}
}

// Create implements driver.Blobs.
func (b *Blobs) Create(ctx context.Context, a driver.Account, size int64) (driver.Writer, error) {
	if err := b.check(ctx, "memkv create"); err != nil {
		return nil, err
	}
	return &writer{store: b, account: a, size: size}, nil
}

func (b *Blobs) check(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return imap.E(op, imap.Closed, nil)
	}
	return nil
}

// Sync implements driver.Blobs.
func (b *Blobs) Sync(ctx context.Context) error { return b.check(ctx, "memkv sync") }

// Open implements driver.Blobs.
func (b *Blobs) Open(ctx context.Context, a driver.Account, ref driver.Ref) (driver.Blob, error) {
	if err := b.check(ctx, "memkv open blob"); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.accounts[a][ref]
	if s == nil || s.deleted {
		return nil, imap.E("memkv open blob", imap.NotFound, nil)
	}
	return blob{bytes.NewReader(s.data)}, nil
}

// Delete implements driver.Blobs.
func (b *Blobs) Delete(ctx context.Context, a driver.Account, refs []driver.Ref) error {
	if err := b.check(ctx, "memkv delete blobs"); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ref := range refs {
		if s := b.accounts[a][ref]; s != nil && s.pinned {
			s.deleted = true
		} else {
			delete(b.accounts[a], ref)
		}
	}
	return nil
}

// Sweep implements driver.Blobs.
func (b *Blobs) Sweep(ctx context.Context, a driver.Account, named func(driver.Ref) bool) error {
	var refs []driver.Ref
	err := b.list(ctx, a, func(ref driver.Ref, s *stored) error {
		if !s.pinned && !named(ref) {
			refs = append(refs, ref)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.Delete(ctx, a, refs)
}

// List implements driver.Blobs.
func (b *Blobs) List(ctx context.Context, a driver.Account, fn func(driver.Ref, driver.BlobInfo) error) error {
	return b.list(ctx, a, func(ref driver.Ref, s *stored) error {
		return fn(ref, driver.BlobInfo{Size: int64(len(s.data)), Meta: s.meta})
	})
}

// list calls fn with copies and without the lock.
func (b *Blobs) list(ctx context.Context, a driver.Account, fn func(driver.Ref, *stored) error) error {
	if err := b.check(ctx, "memkv list blobs"); err != nil {
		return err
	}
	all := make(map[driver.Ref]stored)
	b.mu.Lock()
	for ref, s := range b.accounts[a] {
		if !s.deleted {
			all[ref] = *s
		}
	}
	b.mu.Unlock()
	for ref, s := range all {
		if err := fn(ref, &s); err != nil {
			return err
		}
	}
	return nil
}

// Skip implements driver.Blobs.
func (b *Blobs) Skip(ctx context.Context, used driver.Ref) error {
	if err := b.check(ctx, "memkv skip"); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = max(b.last, used)
	return nil
}

// Close implements driver.Blobs.
func (b *Blobs) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

type writer struct {
	store    *Blobs
	account  driver.Account
	size     int64
	data     []byte
	ref      driver.Ref
	finished bool
	released bool
}

var (
	errFinished = errors.New("the blob is finished or released already")
	errSize     = errors.New("the content is not as long as was said at the beginning")
)

func (w *writer) Write(p []byte) (int, error) {
	if w.finished || w.released {
		return 0, imap.E("memkv write blob", imap.ServerBug, errFinished)
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *writer) ReadAt(p []byte, off int64) (int, error) {
	if w.released {
		return 0, imap.E("memkv read blob", imap.ServerBug, errFinished)
	}
	return bytes.NewReader(w.data).ReadAt(p, off)
}

func (w *writer) Finish(meta []byte) (driver.Ref, error) {
	if w.finished || w.released {
		return 0, imap.E("memkv finish blob", imap.ServerBug, errFinished)
	}
	if w.size >= 0 && w.size != int64(len(w.data)) {
		return 0, imap.E("memkv finish blob", imap.ServerBug, errSize)
	}
	b := w.store
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, imap.E("memkv finish blob", imap.Closed, nil)
	}
	b.last++
	w.ref, w.finished = b.last, true
	if b.accounts[w.account] == nil {
		b.accounts[w.account] = make(map[driver.Ref]*stored)
	}
	b.accounts[w.account][w.ref] = &stored{data: w.data, meta: bytes.Clone(meta), pinned: true}
	return w.ref, nil
}

func (w *writer) Release() {
	if w.released {
		return
	}
	w.released = true
	if !w.finished {
		w.data = nil
		return
	}
	b := w.store
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.accounts[w.account][w.ref]
	if s == nil {
		return
	}
	s.pinned = false
	if s.deleted {
		delete(b.accounts[w.account], w.ref)
	}
}

var _ interface {
	driver.Writer
	io.ReaderAt
} = (*writer)(nil)

package bloblog

import (
	"cmp"
	"container/list"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A segment is one file of records. It is written by its lane, then sealed,
// and taken away when most of it is dead and nobody reads it.
type segment struct {
	id  uint32
	fs  vfs.FS
	dir string
	// opened counts the open files of the store's segments.
	opened *atomic.Int32

	// Guarded by Store.mu.
	users   int           // readers and writers that need the file
	dead    int64         // bytes of records that nobody needs
	idle    *list.Element // in Store.idle, or nil
	doomed  bool          // to be removed when users is 0
	failed  bool          // a sync has failed: nothing more is written to it
	entries []entry
	// Of riders: what they take, the place of the first, and how many are not settled.
	ridden    int64
	rider     uint32
	unsettled int

	syncing sync.Mutex // held while the file is synced

	mu      sync.Mutex
	file    vfs.File // nil while closed; a segment that is not sealed stays open
	salt    uint64   // valid while file is not nil
	sealed  bool
	moved   bool // holds records that were first written elsewhere
	size    int64
	gone    bool         // the folder has it no more: nothing more is written to it
	former  []vfs.File   // those that it was read from before it was written again
	byOwner []ownerRange // of a sealed segment, read when first needed
}

// An ownerRange says which entries of a footer belong to an account.
type ownerRange struct {
	account  driver.Account
	first, n uint32
}

func (g *segment) name(sealed, moved bool) string {
	ext := "log"
	if sealed && moved {
		ext = "mov"
	} else if sealed {
		ext = "seg"
	}
	return g.fs.PathJoin(g.dir, fmt.Sprintf("%08x.%s", g.id, ext))
}

// open makes the file readable; the caller has counted itself as a user.
func (g *segment) open() (vfs.File, uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file != nil {
		return g.file, g.salt, nil
	}
	f, err := g.fs.Open(g.name(g.sealed, g.moved))
	if err != nil {
		return nil, 0, err
	}
	head := make([]byte, segmentHeader)
	if _, err = f.ReadAt(head, 0); err != nil && err != io.EOF {
		f.Close()
		return nil, 0, err
	}
	salt, err := decodeSegmentHeader(head, g.id)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	g.file, g.salt = f, salt
	g.opened.Add(1)
	return f, salt, nil
}

// closeFile closes the file of a segment without users.
func (g *segment) closeFile() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file == nil {
		return nil
	}
	err := g.file.Close()
	for _, f := range g.former {
		f.Close() // what was in it is elsewhere
	}
	g.opened.Add(-1 - int32(len(g.former)))
	g.file, g.former = nil, nil
	return err
}

// setFile takes the file of a segment that is being begun or recovered.
func (g *segment) setFile(f vfs.File) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file = f
	g.opened.Add(1)
}

func (g *segment) isSealed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sealed
}

// mayClose reports whether the file can be opened again: not while it is written, nor
// when it is gone.
func (g *segment) mayClose() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sealed && !g.gone
}

// length is that of the file, as far as records are known in it.
func (g *segment) length() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.size
}

func (g *segment) setLength(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.size = n
}

// readFooter reads the whole index of a sealed segment and remembers who owns
// which part of it.
func (g *segment) readFooter() ([]entry, error) {
	f, _, err := g.open()
	if err != nil {
		return nil, err
	}
	at, n, body, err := g.footerAt(f)
	if err != nil {
		return nil, err
	}
	p := make([]byte, n*entryLen)
	if _, err := f.ReadAt(p, at); err != nil {
		return nil, err
	}
	if sum(p) != body {
		return nil, errBadFooter
	}
	entries := make([]entry, n)
	var owners []ownerRange
	for i := range entries {
		e := decodeEntry(p[i*entryLen:])
		entries[i] = e
		if len(owners) == 0 || owners[len(owners)-1].account != e.account {
			owners = append(owners, ownerRange{e.account, uint32(i), 0})
		}
		owners[len(owners)-1].n++
	}
	g.mu.Lock()
	g.byOwner = owners
	if owners == nil {
		g.byOwner = []ownerRange{}
	}
	g.mu.Unlock()
	return entries, nil
}

func (g *segment) footerAt(f vfs.File) (at int64, n int, body uint32, err error) {
	size := g.length()
	if size < segmentHeader+trailerLen {
		return 0, 0, 0, errBadFooter
	}
	p := make([]byte, trailerLen)
	if _, err := f.ReadAt(p, size-trailerLen); err != nil {
		return 0, 0, 0, err
	}
	n, body, err = decodeTrailer(p)
	at = size - trailerLen - int64(n)*entryLen
	if err == nil && at < segmentHeader {
		err = errBadFooter
	}
	return at, n, body, err
}

// entriesOf reads the part of a sealed segment's index that is the account's.
func (g *segment) entriesOf(a driver.Account) ([]entry, error) {
	g.mu.Lock()
	owners := g.byOwner
	g.mu.Unlock()
	if owners == nil {
		all, err := g.readFooter()
		return slices.DeleteFunc(all, func(e entry) bool { return e.account != a }), err
	}
	i, ok := slices.BinarySearchFunc(owners, a, func(o ownerRange, a driver.Account) int { return cmp.Compare(o.account, a) })
	if !ok {
		return nil, nil
	}
	f, _, err := g.open()
	if err != nil {
		return nil, err
	}
	at, _, _, err := g.footerAt(f)
	if err != nil {
		return nil, err
	}
	p := make([]byte, int(owners[i].n)*entryLen)
	if _, err := f.ReadAt(p, at+int64(owners[i].first)*entryLen); err != nil {
		return nil, err
	}
	entries := make([]entry, owners[i].n)
	for j := range entries {
		entries[j] = decodeEntry(p[j*entryLen:])
	}
	return entries, nil
}

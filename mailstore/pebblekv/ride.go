package pebblekv

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// Where messages and the log that names them are both due, one sync does for both: the
// log rides with the messages. What is to be written to it is appended to the file of
// the messages as well, behind them; that file is synced, and the log is written
// without a sync. Until the log itself is synced, after 1 MB or in a moment of rest, the file of
// the messages is what keeps it: after a crash its pieces are laid into the log before
// anybody reads that (layin.go).

// Rider is what Options.Blobs may be besides: blobs that can make a piece of the log
// durable with them. Without it each commit that names blobs takes two syncs. Its
// methods are safe for concurrent use.
type Rider interface {
	// Ride makes durable all blobs that are finished, as Sync does, and p after them:
	// a crash never keeps p without the blobs. took is false, and nothing was done,
	// where that takes more than one sync, or there are no such blobs. p is not kept.
	Ride(ctx context.Context, p []byte) (took bool, err error)
	// Riders calls fn with each p that Ride has taken since the last Settled, whatever
	// has crashed since, in any order. There may be others: some that Settled was called
	// for before a crash, and some that Ride has failed with. Where it is sure, the
	// blobs before them are whole; where not, a crash may have been before the end of
	// Ride, or damage came later. fn must not keep p.
	Riders(ctx context.Context, fn func(p []byte, sure bool) error) error
	// Settled says that nothing is needed any more that was taken before.
	Settled()
}

const (
	// maxRide is how much of the log rides at once: more is better written once.
	maxRide = 64 << 10
	// maxRidden is how much may have ridden until the log is synced itself: it bounds
	// what that sync takes, which others wait for.
	maxRidden = 1 << 20
)

// A piece of a log as it rides: the name of the opening of the store that has written
// it, the number of the log and the place in it (8 bytes each, little endian), and what
// is there. Logs of one opening have different numbers. Those of another one may be
// those of a store that was set back, restored or repaired since, and are not the same
// under the same number.
const pieceHead = len(opening{}) + 16

// An opening is the name of one opening of a store, which is random.
type opening [16]byte

// A piece is one that was read.
type piece struct {
	log  uint64
	off  int64
	data []byte
	sure bool // it was acknowledged, or does no harm: see Rider
}

func (p *piece) end() int64 { return p.off + int64(len(p.data)) }

func appendPiece(p []byte, o opening, log uint64, off int64, data []byte) []byte {
	p = append(p, o[:]...)
	p = binary.LittleEndian.AppendUint64(p, log)
	p = binary.LittleEndian.AppendUint64(p, uint64(off))
	return append(p, data...)
}

// ride lets what is held back ride with the messages that it may name, if it can.
func (h *heldLog) ride() (took bool) {
	switch {
	case h.rider == nil || h.fs.opening.Load() == nil:
	case len(h.held) == 0 || len(h.held) > maxRide || h.ridden+len(h.held) > maxRidden:
	case h.safe == 0 || h.safe != h.off: // nothing is known of the log yet, or not all that is in it rode
	default:
		_ = h.fs.must("sync the messages with the log", func() (err error) {
			h.piece = appendPiece(h.piece[:0], *h.fs.opening.Load(), h.number, h.off, h.held)
			took, err = h.rider.Ride(context.Background(), h.piece)
			return err
		}, nothing)
	}
	if !took {
		return false
	}
	end := h.off + int64(len(h.held))
	h.ridden += len(h.held)
	_, _ = h.logFile.Write(h.held) // where that fails, the store has failed
	h.held = h.held[:0]
	if h.safe = end; h.off == end {
		h.fs.synced.note(h.number, end)
	}
	return true
}

// settle syncs the log itself: nothing that rode is needed any more.
func (h *heldLog) settle(sync func() error) error {
	return h.fs.must("sync", func() error {
		err := h.noted(sync())
		if err == nil {
			h.safe = h.off
		}
		if err == nil && h.ridden > 0 {
			h.ridden = 0
			h.rider.Settled()
		}
		return err
	}, nothing)
}

// openingName is a file beside logs, of the store and of its journal, that names the
// opening whose pieces are of them.
const openingName = "RIDES"

// letRide gives the opening of the store a name of its own, after which the log may
// ride; what rode before is laid in by then. Whoever takes a folder of logs for another
// one (a backup, which has no such file, or a repair) has none of its pieces. Where it
// fails, each commit of a message takes two syncs.
func (kv *KV) letRide() {
	kv.naming.Lock()
	defer kv.naming.Unlock()
	if _, ok := kv.opts.Blobs.(Rider); !ok || kv.opts.Relaxed > 0 {
		return
	}
	var o opening
	_, _ = rand.Read(o[:]) // which does not fail
	for _, dir := range kv.logDirs() {
		if err := writeOpening(kv.opts.FS, dir, o); err != nil {
			kv.opts.Logger.Warn("the index cannot be named, so that storing a message takes two syncs instead of one until the next start", "dir", dir, "err", err)
			return
		}
	}
	kv.opening.Store(&o)
}

// layIn lays in what has ridden, before anything of the store is read.
func (kv *KV) layIn() error {
	o := kv.opening.Load()
	if o == nil {
		return LayIn(context.Background(), kv.opts.FS, kv.dir, kv.opts.Journal, kv.opts.Blobs)
	}
	var folders []logFolder
	for _, dir := range kv.logDirs() {
		f := logFolder{dir: dir, opening: *o}
		if kv.journal != nil {
			f.proofs = kv.journal.dir()
		}
		folders = append(folders, f)
	}
	ridden, err := readRidden(context.Background(), kv.opts.Blobs.(Rider))
	if err == nil {
		err = layIn(context.Background(), kv.opts.FS, folders, ridden)
	}
	return layInError(kv.dir, err)
}

// lookAtOpening writes the name of the opening again where somebody has removed it: a
// crash would need it.
func (kv *KV) lookAtOpening() (list []Missing) {
	kv.naming.Lock()
	defer kv.naming.Unlock()
	o := kv.opening.Load()
	if o == nil {
		return nil
	}
	for _, dir := range kv.logDirs() {
		there, err := readOpening(kv.opts.FS, dir)
		if err == nil && there == *o || err != nil && err != errNoOpening && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		err = writeOpening(kv.opts.FS, dir, *o)
		if dir == kv.dir { // what else the journal lacks is told by others
			list = append(list, Missing{File: kv.opts.FS.PathJoin(dir, openingName), Saved: err == nil, Err: err})
		}
	}
	return list
}

// settled says that nothing is needed any more that has ridden until now.
func (kv *KV) settled() {
	if rider, ok := kv.opts.Blobs.(Rider); ok {
		rider.Settled()
	}
}

// logDirs are the folders that have logs of the store.
func (kv *KV) logDirs() []string {
	if kv.journal == nil {
		return []string{kv.dir}
	}
	return []string{kv.dir, kv.journal.dir()}
}

func writeOpening(disk vfs.FS, dir string, o opening) error {
	return durable.WriteFile(disk, disk.PathJoin(dir, openingName), hex.EncodeToString(o[:])+"\n", categoryJournal)
}

var errNoOpening = errors.New("the file names no opening of the store")

func readOpening(disk vfs.FS, dir string) (o opening, err error) {
	text, err := readText(disk, disk.PathJoin(dir, openingName))
	if err != nil {
		return o, err
	}
	if name, err := hex.DecodeString(text); err == nil && len(name) == len(o) {
		return opening(name), nil
	}
	return o, errNoOpening
}

package mailstore

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// maxThreadIDs bounds the identifiers of one message that the thread index
// takes: its own, the root's, and the nearest ancestors.
const maxThreadIDs = 30

// threadIDs returns the identifiers that place a message in a thread: its own
// first, then its ancestors from the nearest on.
func threadIDs(d *message.Digest) []string {
	var ids []string
	if d.MessageID != "" {
		ids = append(ids, d.MessageID)
	}
	refs := d.References
	for i := len(refs) - 1; i >= 0 && len(ids) < maxThreadIDs-1; i-- {
		ids = append(ids, refs[i])
	}
	if len(refs) > 0 {
		ids = append(ids, refs[0])
	}
	return ids
}

// thread finds the thread of a message by its identifiers, or begins one, and
// makes sure that all of them lead to it from now on. What an identifier leads
// to never changes.
func (t *opTx) thread(msg uint64, ids []string) (uint64, error) {
	var thread uint64
	unknown, own := make([][]byte, 0, 4), 0
	for i, id := range ids {
		key := hashKey(keyThread, id)
		found, err := t.threadOf(key)
		switch {
		case err != nil:
			return 0, err
		case found == 0:
			unknown = append(unknown, key)
			if i == 0 {
				own = 1
			}
		case thread == 0:
			thread = found
		}
	}
	if thread == 0 {
		thread = msg
	}
	for i, key := range unknown {
		t.a.working.ids.add(key)
		t.setSeen(key, appendUints(make([]byte, 0, binary.MaxVarintLen64), thread))
		t.noteThread(key, thread, i >= own)
	}
	return thread, nil
}

// threadOf returns what a key of the thread index leads to, 0 where it is not there.
func (t *opTx) threadOf(key []byte) (uint64, error) {
	known := &t.a.working.ids
	if known.lacks(key) {
		return 0, nil
	}
	if thread := known.thread(key); thread != 0 {
		t.noteThread(key, thread, true)
		return thread, nil
	}
	data, ok, err := t.get(key)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, known.missed(t.b.tx)
	}
	d := decoder{data: data}
	thread := d.uint()
	t.noteThread(key, thread, true)
	return thread, d.err("thread index")
}

// noteThread has a key remembered, once it is committed.
func (t *opTx) noteThread(key []byte, thread uint64, named bool) {
	t.threads = append(t.threads, knownThread{[16]byte(key[1:]), thread, named})
}

// knownIDs remembers keys of the thread index of an account, so that few deliveries
// have to look there: the Message-ID of nearly each has never been seen before, and a
// reply mostly names messages that are not old.
//
// That a key is not there it knows by filters, which err on one side: they may take a
// key for known that is not, never the other way round. So keys of a transaction that
// is not committed may stay in them. Of an account that had no message when it was read
// all keys are known. Those of others it learns in their order, some at a time: as
// many as can be read for what look-ups in vain have cost, so that it pays for itself
// where many messages come, and reads little where few do.
//
// It belongs to the committer.
type knownIDs struct {
	all    bool   // all keys are known,
	next   []byte // or those below this one
	off    bool   // there are too many keys
	credit int    // how many keys may be read

	// layers are Bloom filters, each with room for twice as many keys as the one
	// before. Each key has some bits of one word, so a look-up reads one word of
	// each layer.
	layers [][]uint64
	room   int // for keys in the last layer

	// Keys that are on disk, and what they lead to: the newest, which answers will
	// name, and those that were named, and will be again.
	fresh, named threadTable
}

// knownThread is a key of the thread index, without its kind, and what it leads to;
// 0 where there is none.
type knownThread struct {
	key    [16]byte
	thread uint64
	named  bool // by a message that refers to another one
}

// threadTable has each key at the place that it is hashed to, in the place of
// another one.
type threadTable struct {
	places []knownThread
	filled int // keys that have been put there
}

const (
	firstIDs  = 128     // keys in the first layer
	mostIDs   = 1 << 19 // in the last one: 2 MB in all
	keysAWord = 4       // of 64 bits: one in 200 is taken for known by a full layer
	idCredit  = 64      // keys that are read as fast as one is looked up
	idsAtOnce = 4 * idCredit

	firstPlaces = 16
	mostFresh   = 512
	mostNamed   = 2048
)

// newKnownIDs begins with what is known when an account is read that has numbered so
// many messages.
func newKnownIDs(messages uint64) knownIDs {
	return knownIDs{all: messages == 0, off: messages > 2*mostIDs}
}

// lacks reports whether the account has certainly no such key.
func (k *knownIDs) lacks(key []byte) bool {
	if k.off || !k.all && bytes.Compare(key, k.next) >= 0 {
		return false
	}
	hash := idHash(key)
	for _, layer := range k.layers {
		if bits := idBits(hash); layer[idWord(hash, layer)]&bits == bits {
			return false
		}
	}
	return true
}

// add notes a key that is being written.
func (k *knownIDs) add(key []byte) {
	if k.off {
		return
	}
	if k.room == 0 {
		n := firstIDs << len(k.layers)
		if n > mostIDs {
			*k = knownIDs{off: true}
			return
		}
		k.layers, k.room = append(k.layers, make([]uint64, n/keysAWord)), n
	}
	k.room--
	layer, hash := k.layers[len(k.layers)-1], idHash(key)
	layer[idWord(hash, layer)] |= idBits(hash)
}

// missed notes that a key has been looked up in vain.
func (k *knownIDs) missed(r driver.Reader) error {
	k.credit += idCredit
	if k.all || k.off || k.credit < idsAtOnce {
		return nil
	}
	if k.next == nil {
		k.next = []byte{keyThread}
	}
	err := scanRange(r, k.next, []byte{keyThread + 1}, func(key, _ []byte) error {
		if k.credit--; k.credit < 0 {
			return errEnough
		}
		k.add(key)
		k.next = append(append(k.next[:0:0], key...), 0)
		return nil
	})
	k.credit = 0
	if errors.Is(err, errEnough) {
		return nil
	}
	k.all = err == nil
	return err
}

// thread returns what a key leads to, 0 where that is not remembered.
func (k *knownIDs) thread(key []byte) uint64 {
	if thread := k.named.thread(key); thread != 0 {
		return thread
	}
	return k.fresh.thread(key)
}

// remember takes keys that have been committed.
func (k *knownIDs) remember(list []knownThread) {
	for _, known := range list {
		if known.named {
			k.named.put(known, mostNamed)
		} else {
			k.fresh.put(known, mostFresh)
		}
	}
}

// memory returns about how many bytes it takes.
func (k *knownIDs) memory() int64 {
	n := 32 * int64(len(k.fresh.places)+len(k.named.places))
	for _, layer := range k.layers {
		n += int64(8 * len(layer))
	}
	return n
}

func (t *threadTable) thread(key []byte) uint64 {
	if len(t.places) == 0 {
		return 0
	}
	if known := &t.places[t.place(key)]; known.key == [16]byte(key[1:]) {
		return known.thread
	}
	return 0
}

// put takes a key. The table has up to most places.
func (t *threadTable) put(known knownThread, most int) {
	if t.filled++; t.filled > len(t.places) && len(t.places) < most {
		old := t.places
		t.places = make([]knownThread, max(firstPlaces, 2*len(old)))
		for i := range old {
			if old[i].thread != 0 {
				t.places[t.place(old[i].key[:])] = old[i]
			}
		}
	}
	t.places[t.place(known.key[:])] = known
}

func (t *threadTable) place(key []byte) uint64 { return idHash(key) % uint64(len(t.places)) }

// idHash returns a part of a key that is spread evenly: keys are hashes.
func idHash(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

func idWord(hash uint64, layer []uint64) uint64 { return hash >> 32 % uint64(len(layer)) }

// idBits are the bits of a key in its word.
func idBits(hash uint64) uint64 {
	return 1<<(hash&63) | 1<<(hash>>6&63) | 1<<(hash>>12&63) | 1<<(hash>>18&63)
}

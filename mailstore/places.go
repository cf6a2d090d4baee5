package mailstore

import (
	"math"
	"sync"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// places remembers where messages are that were read one at a time: a mail program
// that asks for a message often asks for it again, a piece each time. What a
// record says of that never changes, and numbers of messages are never used again; that
// the message is gone says its blob.
type places struct {
	mu     sync.Mutex
	blocks [placeBlocks]*[placeBlock]blobPlace
}

// Memory is taken by blocks of 8 kB, as messages are read: 2 MB at most.
const (
	placeBlocks = 256
	placeBlock  = 256
)

type blobPlace struct {
	account       driver.Account
	msg           uint64
	ref           driver.Ref // 0 where there is none
	rawSize, size uint32
}

// at returns where the place of a message is, if it is there: messages that follow
// each other do not displace each other.
func (*places) at(a driver.Account, msg uint64) (block, i int) {
	n := (msg + uint64(a)*0x9e3779b97f4a7c15>>48) % (placeBlocks * placeBlock)
	return int(n / placeBlock), int(n % placeBlock)
}

// find returns what is known of a message: nothing but where it is, and its sizes.
func (p *places) find(a driver.Account, msg uint64) (rec messageRec, ok bool) {
	block, i := p.at(a, msg)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocks[block] == nil {
		return rec, false
	}
	m := &p.blocks[block][i]
	if m.ref == 0 || m.account != a || m.msg != msg {
		return rec, false
	}
	return messageRec{ref: m.ref, rawSize: int64(m.rawSize), size: int64(m.size)}, true
}

// keep remembers a message, unless it is one of a rare kind.
func (p *places) keep(a driver.Account, msg uint64, rec *messageRec) {
	if rec.hasNUL || rec.rawSize > math.MaxUint32 || rec.size > math.MaxUint32 {
		return
	}
	block, i := p.at(a, msg)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocks[block] == nil {
		p.blocks[block] = new([placeBlock]blobPlace)
	}
	p.blocks[block][i] = blobPlace{a, msg, rec.ref, uint32(rec.rawSize), uint32(rec.size)}
}

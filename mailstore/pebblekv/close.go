package pebblekv

import (
	"time"

	"github.com/rookery-mail/rookery/imap"
)

// Close implements driver.KV.
func (kv *KV) Close() error {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if kv.closed {
		return nil
	}
	kv.closed = true
	if !kv.drain() {
		return imap.E("index close", imap.ContactAdmin, errStuck)
	}
	return kv.in.close()
}

// Reopen opens a store that has failed once more, when its running
// transactions have ended. Everything that was acknowledged is there; what
// ended with driver.ErrUnknown may or may not be. A store that has not failed
// is left alone. The error is of kind Unavailable when the cause is not gone:
// call it again later. It is of kind ContactAdmin when the old database does
// not come to an end: the process must be restarted.
func (kv *KV) Reopen() error {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if kv.in.failure() == nil && !kv.closed {
		return nil
	}
	if !kv.drain() {
		return imap.E("index reopen", imap.ContactAdmin, errStuck)
	}
	if kv.closed {
		return imap.E("index reopen", imap.Closed, nil)
	}
	if !kv.gone {
		if err := kv.in.close(); err != nil {
			return imap.E("index reopen", imap.ContactAdmin, err)
		}
		kv.gone = true
	}
	in, err := openInstance(kv.dir, kv.opts)
	if err != nil {
		return err
	}
	kv.in, kv.gone = in, false
	return nil
}

// drain waits, with kv.mu held before and after, until nobody is in a
// transaction. It gives up after a while where the database has failed, since
// a transaction may then hang inside it for ever.
func (kv *KV) drain() bool {
	var enough <-chan time.Time
	for kv.running > 0 {
		if kv.idle == nil {
			kv.idle = make(chan struct{})
		}
		idle, in := kv.idle, kv.in
		if enough == nil && in.failure() != nil {
			enough = time.After(closePatience)
		}
		kv.mu.Unlock()
		gaveUp := false
		if enough == nil {
			select {
			case <-idle:
			case <-in.failed:
			}
		} else {
			select {
			case <-idle:
			case <-enough:
				gaveUp = true
			}
		}
		kv.mu.Lock()
		if gaveUp {
			return kv.running == 0
		}
	}
	return true
}

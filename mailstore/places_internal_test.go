package mailstore

import (
	"math"
	"testing"
)

func TestPlaces(t *testing.T) {
	var p places
	if _, ok := p.find(1, 5); ok {
		t.Error("what nobody has kept is found")
	}
	const far = 5 + placeBlocks*placeBlock // has the same place
	for msg := uint64(5); msg < far; msg++ {
		p.keep(1, msg, &messageRec{ref: 7, rawSize: int64(msg), size: 9, headerLen: 3})
	}
	for msg := uint64(5); msg < far; msg++ {
		rec, ok := p.find(1, msg)
		if want := (messageRec{ref: 7, rawSize: int64(msg), size: 9}); !ok || rec != want {
			t.Fatalf("message %d: %+v, %v", msg, rec, ok)
		}
	}
	if _, ok := p.find(2, 5); ok {
		t.Error("the message of another account is found")
	}
	p.keep(1, far, &messageRec{ref: 8})
	if _, ok := p.find(1, 5); ok {
		t.Error("two messages have one place")
	}
	for _, rec := range []messageRec{{ref: 9, hasNUL: true}, {ref: 9, rawSize: math.MaxUint32 + 1}, {ref: 9, size: math.MaxUint32 + 1}} {
		p.keep(3, 1, &rec)
		if got, ok := p.find(3, 1); ok {
			t.Errorf("%+v is kept as %+v", rec, got)
		}
	}
}

package pebblekv

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// loggedFile notes writes and syncs.
type loggedFile struct {
	vfs.File
	done []string
}

func (f *loggedFile) Write(p []byte) (int, error) {
	f.done = append(f.done, fmt.Sprint(len(p)))
	return len(p), nil
}

func (f *loggedFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func (f *loggedFile) Preallocate(int64, int64) error { return nil }

func (f *loggedFile) SyncData() error {
	f.done = append(f.done, "sync")
	return nil
}

// TestTrailerWaits: what ends a log says that all before it was on disk, so it is written
// when that is so.
func TestTrailerWaits(t *testing.T) {
	trailer := make([]byte, shortHead)
	trailer[6] = chunkFull
	binary.LittleEndian.PutUint32(trailer[7:], 8)
	for _, c := range []struct {
		writes [][]byte
		want   []string
	}{
		{[][]byte{make([]byte, 100), trailer}, []string{"100", "sync", "11", "sync"}},
		{[][]byte{make([]byte, maxHeld), trailer}, []string{fmt.Sprint(maxHeld), "sync", "11", "sync"}},
		{[][]byte{make([]byte, 100), nil, trailer}, []string{"100", "sync", "11", "sync"}},
		{[][]byte{make([]byte, 100), make([]byte, 200)}, []string{"300", "sync"}},
	} {
		in := &instance{dir: "index", log: slog.New(slog.DiscardHandler), failed: make(chan struct{})}
		file := &loggedFile{}
		h := &heldLog{
			logFile: &logFile{File: file, fs: newFreezeFS(vfs.NewMem(), "index", in), number: 7},
			sync:    func(context.Context) error { return nil },
		}
		for _, p := range c.writes {
			if p == nil {
				if err := h.SyncData(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if _, err := h.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.SyncData(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(file.done, c.want) {
			t.Errorf("%v, want %v", file.done, c.want)
		}
	}
}

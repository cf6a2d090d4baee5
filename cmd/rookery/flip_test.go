package main

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdFlip damages a file as a disk might: by one bit.
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: flip TEXT FILE...")
	}
	flipped := 0
	for _, arg := range args[1:] {
		names, err := filepath.Glob(ts.MkAbs(arg))
		ts.Check(err)
		for _, name := range names {
			b, err := os.ReadFile(name)
			ts.Check(err)
			i := bytes.Index(b, []byte(args[0]))
			if i < 0 {
				continue
			}
			flipped++
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			ts.Check(err)
			_, err = f.WriteAt([]byte{b[i] ^ 1}, int64(i))
			ts.Check(err)
			ts.Check(f.Close())
		}
	}
	if flipped != 1 {
		ts.Fatalf("%d files have %q", flipped, args[0])
	}
}

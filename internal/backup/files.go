package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
)

const chunk = 1 << 20

// transfer copies r to w and returns the checksum of the bytes.
func transfer(ctx context.Context, w io.Writer, r io.Reader, done func(n int64)) (sum string, n int64, err error) {
	h := sha256.New()
	buf := make([]byte, chunk)
	for {
		if err := ctx.Err(); err != nil {
			return "", n, err
		}
		k, err := r.Read(buf)
		h.Write(buf[:k])
		n += int64(k)
		if _, err := w.Write(buf[:k]); err != nil {
			return "", n, err
		}
		if done != nil {
			done(int64(k))
		}
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), n, nil
		}
		if err != nil {
			return "", n, err
		}
	}
}

// writeFile writes a new file, durably but for its name.
func writeFile(ctx context.Context, path string, r io.Reader, done func(n int64)) (sum string, n int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, err
	}
	if sum, n, err = transfer(ctx, f, r, done); err == nil {
		err = f.Sync()
	}
	return sum, n, errors.Join(err, f.Close())
}

func hashFile(ctx context.Context, path string, done func(n int64)) (sum string, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	return transfer(ctx, io.Discard, f, done)
}

// sameSegment compares two sealed segments by what tells them from all others:
// the header has a random number, and the end a checksum of all that there is.
func sameSegment(a, b string, size int64) bool {
	const ends = 32
	pa, pb := endsOf(a, size, ends), endsOf(b, size, ends)
	return pa != nil && bytes.Equal(pa, pb)
}

// endsOf returns the first and last n bytes of a file that has the given size.
func endsOf(path string, size, n int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != size || size < 2*n {
		return nil
	}
	p := make([]byte, 2*n)
	if _, err := f.ReadAt(p[:n], 0); err != nil {
		return nil
	}
	if _, err := f.ReadAt(p[n:], size-n); err != nil {
		return nil
	}
	return p
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(path string) error { return syncFile(path) }

package inflate_test

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/internal/inflate"
)

// errNothing is what a dripping reader returns when it has no more now.
var errNothing = errors.New("nothing more now")

// feed hands out what it was given, at most one byte at a time if slow.
type feed struct {
	data []byte
	slow bool
	end  error // at the end of data
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.data) == 0 {
		return 0, f.end
	}
	if f.slow {
		p = p[:1]
	}
	n := copy(p, f.data)
	f.data = f.data[n:]
	return n, nil
}

// available is what a fresh Reader hands out of data before it asks for more.
func available(t *testing.T, data []byte, slow bool) []byte {
	t.Helper()
	got, err := io.ReadAll(inflate.NewReader(&feed{data: data, slow: slow, end: errNothing}))
	if !errors.Is(err, errNothing) && err != nil {
		t.Fatalf("%x: %v", data, err)
	}
	return got
}

// TestZlib compares with what zlib makes of the same bytes, for every kind of
// flush: nothing that is there may be held back.
func TestZlib(t *testing.T) {
	file, err := os.ReadFile("testdata/zlib.txt")
	if err != nil {
		t.Fatal(err)
	}
	var commands []byte
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSuffix(line, "\n")
		if command, ok := strings.CutPrefix(line, "> "); ok {
			commands = append(commands, command+"\r\n"...)
			continue
		}
		if line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		t.Run(strings.Join(words[:3], "-"), func(t *testing.T) {
			var stream []byte
			for _, w := range words[3:] {
				part, count, _ := strings.Cut(w, ":")
				data, err1 := hex.DecodeString(part)
				want, err2 := strconv.Atoi(count)
				if err1 != nil || err2 != nil {
					t.Fatalf("test data: %q", w)
				}
				stream = append(stream, data...)
				for _, slow := range []bool{false, true} {
					if got := available(t, stream, slow); !bytes.Equal(got, commands[:want]) {
						t.Errorf("after %d bytes (slow: %v): %q, want %q", len(stream), slow, got, commands[:want])
					}
				}
			}
			if got, err := io.ReadAll(inflate.NewReader(&feed{data: stream, end: errNothing})); err != nil {
				t.Errorf("behind the last block: %v after %d bytes", err, len(got))
			}
		})
	}
}

// TestEveryBit writes literals of 8 and 9 bits with the fixed code: after each
// byte of input as many are there as are complete.
func TestEveryBit(t *testing.T) {
	var w bitWriter
	w.bits(0b010, 3) // a fixed block, not the last
	text := []byte("a1 UID FETCH 1:* (FLAGS)\r\n\xe4\xff\x90 caf\xc3\xa9\r\n")
	var ends []int // in bits
	for _, c := range text {
		w.literal(c)
		ends = append(ends, w.n)
	}
	for n := range w.data {
		want := 0
		for want < len(ends) && ends[want] <= 8*n {
			want++
		}
		if got := available(t, w.data[:n], false); !bytes.Equal(got, text[:want]) {
			t.Errorf("after %d bytes: %q, want %q", n, got, text[:want])
		}
	}
}

// TestSame compares with the standard library on texts of many shapes.
func TestSame(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		text := make([]byte, rnd.IntN(300_000))
		alphabet := 1 + rnd.IntN(256)
		for j := range text {
			text[j] = byte(rnd.IntN(alphabet))
			if back := rnd.IntN(40_000); j > back && rnd.IntN(3) > 0 {
				text[j] = text[j-back]
			}
		}
		var packed bytes.Buffer
		w, err := flate.NewWriter(&packed, i%11-1)
		if err != nil {
			t.Fatal(err)
		}
		for rest := text; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(100_000))
			w.Write(rest[:n])
			rest = rest[n:]
			if rnd.IntN(2) == 0 {
				w.Flush()
			}
		}
		w.Close()
		got, err := io.ReadAll(inflate.NewReader(&feed{data: packed.Bytes(), slow: i%7 == 0, end: io.EOF}))
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("text %d of %d bytes: got %d bytes, %v", i, len(text), len(got), err)
		}
	}
}

func TestEarlyEnd(t *testing.T) {
	_, err := io.ReadAll(inflate.NewReader(strings.NewReader("\x4a\x34")))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestCorrupt(t *testing.T) {
	for name, data := range map[string]string{
		"reserved block":         "06",
		"stored length":          "0001000100",
		"distance beyond begin":  "4b04a200",
		"too many literals":      "fcff",
		"code with too many":     "04c0ff",
		"repeat without a first": "04800004000000000000000000",
	} {
		raw, err := hex.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, make([]byte, 64)...)
		_, err = io.ReadAll(inflate.NewReader(bytes.NewReader(raw)))
		_, want := io.ReadAll(flate.NewReader(bytes.NewReader(raw)))
		if corrupt := flate.CorruptInputError(0); errors.As(want, &corrupt) != errors.Is(err, inflate.ErrCorrupt) {
			t.Errorf("%s: got %v, the standard library says %v", name, err, want)
		}
	}
}

// FuzzSame: whatever the input, the standard library makes the same of it.
func FuzzSame(f *testing.F) {
	f.Add([]byte("\x4a\x34\x54\xf0\xf3\xf7\x0f\xe0\xe5\x02\x08"))
	f.Add([]byte("\x34\x8d\x41\x0a\xc2\x30\x14"))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, werr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), 1<<20))
		got, gerr := io.ReadAll(io.LimitReader(inflate.NewReader(bytes.NewReader(data)), 1<<20))
		if (werr == nil) != (gerr == nil) && !(errors.Is(werr, io.ErrUnexpectedEOF) || errors.Is(gerr, io.ErrUnexpectedEOF)) {
			t.Fatalf("got %v, want %v", gerr, werr)
		}
		if werr == nil && !bytes.Equal(got, want) {
			t.Fatalf("got %x, want %x", got, want)
		}
	})
}

// TestMemory: a bomb costs no more than the window.
func TestMemory(t *testing.T) {
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, 9)
	zeros := make([]byte, 1<<20)
	for range 64 {
		w.Write(zeros)
	}
	w.Close()
	r := inflate.NewReader(bytes.NewReader(packed.Bytes()))
	var p [4096]byte
	r.Read(p[:])
	if n := testing.AllocsPerRun(1000, func() { r.Read(p[:]) }); n > 0.1 {
		t.Errorf("%v allocations for each read", n)
	}
}

// bitWriter writes DEFLATE by hand.
type bitWriter struct {
	data []byte
	n    int // bits
}

// bits writes n bits, the lowest first.
func (w *bitWriter) bits(v, n int) {
	for range n {
		if w.n%8 == 0 {
			w.data = append(w.data, 0)
		}
		w.data[w.n/8] |= byte(v&1) << (w.n % 8)
		v >>= 1
		w.n++
	}
}

// code writes n bits, the highest first, as codes are.
func (w *bitWriter) code(v, n int) {
	for n--; n >= 0; n-- {
		w.bits(v>>n, 1)
	}
}

// literal writes a byte in the fixed code.
func (w *bitWriter) literal(c byte) {
	if c < 144 {
		w.code(0x30+int(c), 8)
	} else {
		w.code(0x190+int(c)-144, 9)
	}
}

func BenchmarkReader(b *testing.B) {
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, 6)
	text := []byte(strings.Repeat("Some text that is neither short nor interesting, from somebody. ", 100))
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		rnd.Shuffle(len(text), func(i, j int) {
			if i%9 == 0 {
				text[i], text[j] = text[j], text[i]
			}
		})
		w.Write(text)
	}
	w.Close()
	b.SetBytes(int64(200 * len(text)))
	for b.Loop() {
		io.Copy(io.Discard, inflate.NewReader(bytes.NewReader(packed.Bytes())))
	}
}

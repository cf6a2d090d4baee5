package mailstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
	"github.com/rookery-mail/rookery/message"
)

// textBench is an account whose searches are held against what its messages
// say.
type textBench struct {
	t     *testing.T
	rng   *rand.Rand
	kv    driver.KV
	blobs driver.Blobs
	opts  Options
	store *Store
	a     *Account
	texts map[uint64]*message.Text // of all messages that were ever there, by number
}

func (b *textBench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *textBench) open() {
	b.t.Helper()
	var err error
	b.store, err = Open(context.Background(), b.kv, b.blobs, b.opts)
	b.must(err)
	b.a, err = b.store.Account(context.Background(), "ann")
	b.must(err)
}

func (b *textBench) close() { b.must(b.store.Close(context.Background())) }

// settle waits until the background has nothing to do.
func (b *textBench) settle() {
	for {
		b.a.mu.Lock()
		works := b.a.deriving.running && b.a.calmFor() == 0 // which may be hours here
		busy := works && (!b.a.deriving.resting || b.a.derivable()) || b.a.reaping
		b.a.mu.Unlock()
		if !busy {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// generated text has few words, so that needles are found.
var (
	textWords    = strings.Fields("straße Größe ÉCOLE naïve abc ABCD bcde zebra x 日本語 日本 привет ПРИВЕТ łąka ﬁsch")
	textCharsets = map[string]encoding.Encoding{
		"utf-8": encoding.Nop, "iso-8859-1": charmap.ISO8859_1, "koi8-r": charmap.KOI8R, "windows-1250": charmap.Windows1250,
		"iso-2022-jp": japanese.ISO2022JP, "utf-16le": unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
	}
)

func (b *textBench) words(n int) string {
	var s strings.Builder
	for range b.rng.IntN(n) {
		s.WriteString(textWords[b.rng.IntN(len(textWords))])
		s.WriteString([]string{" ", "", "\r\n", "-"}[b.rng.IntN(4)])
	}
	return s.String()
}

func (b *textBench) mail() string {
	names := []string{"utf-8", "iso-8859-1", "koi8-r", "windows-1250", "iso-2022-jp", "utf-16le"}
	name := names[b.rng.IntN(len(names))]
	body, err := encoding.ReplaceUnsupported(textCharsets[name].NewEncoder()).String(b.words(40))
	b.must(err)
	if b.rng.IntN(20) == 0 { // more than is kept of a text
		body += strings.Repeat("filler ", 1000) + b.words(3)
	}
	subject := strings.ReplaceAll(b.words(5), "\r\n", " ")
	return fmt.Sprintf("Subject: =?utf-8?B?%s?=\r\nX-Word: %s\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n",
		base64.StdEncoding.EncodeToString([]byte(subject)), strings.ReplaceAll(b.words(3), "\r\n", " "), name, base64.StdEncoding.EncodeToString([]byte(body)))
}

func (b *textBench) append(box string) {
	ctx := context.Background()
	var items []AppendItem
	var texts []*message.Text
	for range 1 + b.rng.IntN(60) {
		raw := b.mail()
		_, t, err := message.ParseServed(strings.NewReader(raw), int64(len(raw)), message.Limits{})
		b.must(err)
		u, err := b.a.Upload(ctx, int64(len(raw)))
		b.must(err)
		_, err = io.WriteString(u, raw)
		b.must(err)
		items, texts = append(items, AppendItem{Upload: u}), append(texts, t)
	}
	res, err := b.a.Append(ctx, box, items)
	b.must(err)
	m, snap := b.box(box)
	defer m.Close()
	for i, uid := range res.UIDs {
		pos, ok := snap.Find(uid)
		if !ok {
			b.t.Fatalf("UID %d is not there", uid)
		}
		b.texts[snap.Row(pos).Msg] = texts[i]
	}
}

func (b *textBench) box(name string) (*Mailbox, *mailindex.Snapshot) {
	m, err := b.a.Mailbox(context.Background(), name)
	b.must(err)
	snap, err := m.Snapshot(context.Background())
	b.must(err)
	return m, snap
}

// some returns UIDs of a mailbox.
func (b *textBench) some(snap *mailindex.Snapshot) (uids imap.UIDSet) {
	for range b.rng.IntN(30) {
		if n := snap.Len(); n > 0 {
			first := snap.UID(b.rng.IntN(n))
			uids.AddRange(first, first+imap.UID(b.rng.IntN(5)))
		}
	}
	return uids
}

func (b *textBench) expunge(box string) {
	ctx := context.Background()
	m, snap := b.box(box)
	uids := b.some(snap)
	_, err := m.Store(ctx, &StoreRequest{UIDs: uids, Op: FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
	b.must(err)
	b.must(m.Expunge(ctx, &uids))
	b.must(m.Close())
}

func (b *textBench) copy(from, to string) {
	m, snap := b.box(from)
	_, err := m.Copy(context.Background(), b.some(snap), to)
	b.must(err)
	b.must(m.Close())
}

// tidy rewrites segments as if many messages had gone.
func (b *textBench) tidy() {
	b.a.mu.Lock()
	for i := range b.a.deriving.all {
		b.a.deriving.all[i].gone += tidyAfter
	}
	b.a.derive()
	b.a.mu.Unlock()
}

// needle is folded, and often a part of some text.
func (b *textBench) needle() []byte {
	s := b.words(3)
	if b.rng.IntN(3) == 0 {
		s = strings.Trim(s, " ")
	}
	folded := message.Fold(nil, s)
	if n := len(folded); n > 4 && b.rng.IntN(2) == 0 {
		from := b.rng.IntN(n - 2)
		return folded[from : from+1+b.rng.IntN(n-from)]
	}
	return folded
}

// search holds an answer for each message against its text.
func (b *textBench) search(box string) {
	ctx := context.Background()
	m, snap := b.box(box)
	defer m.Close()
	key := message.Key{Where: message.Where(b.rng.IntN(3)), Name: []string{"subject", "x-word"}[b.rng.IntN(2)], Needle: b.needle()}
	answers := make([]Answer, snap.Len())
	skip := b.rng.IntN(3)
	for i := range answers {
		if b.rng.IntN(4) >= skip {
			answers[i] = AnswerOpen
		}
	}
	asked := slices.Clone(answers)
	b.must(m.Search(ctx, snap, &Term{Text: &key}, answers))
	for i, got := range answers {
		t := b.texts[snap.Row(i).Msg]
		want := AnswerNo
		switch {
		case asked[i] == AnswerSkip:
			want = AnswerSkip
		case got == AnswerOpen && len(t.Header)+len(t.MIME)+len(t.Body) > int(b.opts.Limits.TextBytes):
			want = AnswerOpen // the text has been cut off
		case t.Match(key):
			want = AnswerYes
		}
		if got != want {
			b.t.Fatalf("position %d, where %d, needle %q: answer %d, want %d; the text is %q", i, key.Where, key.Needle, got, want, t.Body)
		}
	}
}

// Searches with the index find what is in the texts, whatever happens to
// messages, index and store.
func TestSearchTextAgrees(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		b := &textBench{t: t, rng: rand.New(rand.NewPCG(seed, 1)), texts: make(map[uint64]*message.Text)}
		b.kv, b.blobs = memkv.NewKV(memkv.RunTwice()), memkv.NewBlobs()
		// Nothing is damaged, and nothing fails.
		b.opts = Options{
			Logger:    slog.New(slog.NewTextHandler(&failingWriter{t}, nil)),
			TextBatch: 1 + b.rng.IntN(20), TxnBytes: b.rng.IntN(2) * 20_000, Limits: message.Limits{TextBytes: 4000, HeaderBytes: 1 << 20},
			DeriveDelay: []time.Duration{1, time.Hour}[b.rng.IntN(2)], TextLag: 1 + b.rng.IntN(100),
		}
		b.open()
		b.must(ignoreExists(b.a.Create(context.Background(), "Other", nil)))
		boxes := []string{imap.Inbox, "Other"}
		for range 15 {
			box := boxes[b.rng.IntN(2)]
			switch b.rng.IntN(9) {
			case 0, 1, 2:
				b.append(box)
			case 3:
				b.expunge(box)
			case 4:
				b.copy(box, boxes[b.rng.IntN(2)])
			case 5:
				b.tidy()
			case 6:
				b.close()
				b.open()
			case 7:
				b.a.RebuildIndex()
			default:
				b.settle()
			}
			for range 5 {
				b.search(box)
			}
		}
		b.settle()
		b.search(imap.Inbox)
		b.search("Other")
		b.directory()
		defects, err := b.store.Check(context.Background())
		b.must(err)
		if len(defects) > 0 {
			t.Fatalf("check: %v", defects)
		}
		b.close()
	}
}

// directory checks that the index covers what it should, and that no pages are
// left of segments that are gone. Those of one that was being written when the
// store was closed wait for the next step.
func (b *textBench) directory() {
	ctx := context.Background()
	b.must(b.store.kv.View(ctx, b.a.num, func(r driver.Reader) error {
		dir, err := b.a.currentDirectory(r)
		if err != nil {
			return err
		}
		last := b.a.textsUpTo()
		if waiting := last - dir.last(); waiting >= uint64(b.opts.TextBatch) {
			b.a.mu.Lock()
			defer b.a.mu.Unlock()
			b.t.Fatalf("%d messages of %d are not in the index; %+v", waiting, last, b.a.deriving)
		}
		pages := make(map[uint64]int)
		for _, s := range dir.segments {
			pages[s.num] = s.Pages
		}
		return scanPrefix(r, []byte{keySegPage}, func(key, _ []byte) error {
			num := numOfKey(key[:9])
			if pages[num]--; pages[num] < 0 && num != dir.writing {
				return fmt.Errorf("a page of segment %d, which is not there", num)
			}
			return nil
		})
	}))
}

// What a step has left that was interrupted, the next one takes away, however
// small it is.
func TestInterruptedSegment(t *testing.T) {
	ctx := context.Background()
	b := &textBench{t: t, rng: rand.New(rand.NewPCG(1, 3)), texts: make(map[uint64]*message.Text)}
	b.kv, b.blobs = memkv.NewKV(memkv.RunTwice()), memkv.NewBlobs()
	b.opts = Options{DeriveDelay: 1, Logger: slog.New(slog.NewTextHandler(&failingWriter{t}, nil)), TextBatch: 5, Limits: message.Limits{TextBytes: 4000, HeaderBytes: 1 << 20}}
	b.open()
	for len(b.texts) < 5 {
		b.append(imap.Inbox)
	}
	b.settle()
	b.close()
	const interrupted = 1000
	b.must(b.kv.Update(ctx, b.a.num, func(tx driver.Txn) error {
		dir, err := readDirectory(tx)
		if err != nil {
			return err
		}
		dir.next, dir.writing = interrupted, interrupted
		if err := tx.Set([]byte{keySegments}, dir.encode()); err != nil {
			return err
		}
		return tx.Set(pageKey(interrupted, 7), []byte("half a segment"))
	}))
	b.open()
	for have := len(b.texts); len(b.texts) < have+5; {
		b.append(imap.Inbox)
	}
	b.settle()
	b.search(imap.Inbox)
	b.directory()
	b.must(b.kv.View(ctx, b.a.num, func(r driver.Reader) error {
		dir, err := readDirectory(r)
		if _, left, _ := r.Get(pageKey(interrupted, 7)); left || dir.writing != 0 {
			t.Errorf("segment %d is being written, and its page is there: %v", dir.writing, left)
		}
		return err
	}))
	b.close()
}

// failingWriter fails a test whose store has something to say.
type failingWriter struct{ t *testing.T }

func (w *failingWriter) Write(p []byte) (int, error) {
	w.t.Errorf("%s", p)
	return len(p), nil
}

func ignoreExists(_ any, err error) error {
	if imap.KindOf(err) == imap.Exists {
		return nil
	}
	return err
}

// Records of texts give back what was put in.
func TestTextRecord(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		part := func(name string, most int) []byte {
			unit := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, name)
			return bytes.Repeat(unit, rapid.IntRange(0, most).Draw(rt, name+" times"))
		}
		text := &message.Text{Version: message.Version, Truncated: rapid.Bool().Draw(rt, "truncated"), Header: part("header", 50), MIME: part("MIME", 3), Body: part("body", 400)}
		var packer textPacker
		for range 2 {
			data := packer.pack(text)
			got := currentText(data)
			if got == nil || got.Version != text.Version || got.Truncated != text.Truncated ||
				!bytes.Equal(got.Header, text.Header) || !bytes.Equal(got.MIME, text.MIME) || !bytes.Equal(got.Body, text.Body) {
				rt.Fatalf("got %+v, want %+v", got, text)
			}
			for where := message.InHeader; where <= message.InText; where++ {
				hay := slices.Concat(text.Header, text.MIME, text.Body, []byte("abc"))
				from := rapid.IntRange(0, len(hay)-1).Draw(rt, "from")
				key := message.Key{Where: where, Name: "a", Needle: hay[from:rapid.IntRange(from+1, len(hay)).Draw(rt, "to")]}
				m := textMatcher{key: key}
				rec, err := openText(data)
				if err != nil {
					rt.Fatal(err)
				}
				found, err := m.match(&rec)
				if err != nil || found != text.Match(key) {
					rt.Fatalf("where %d, %q: found %v, %v", where, key.Needle, found, err)
				}
			}
			if n := len(data); n > 0 {
				damaged := slices.Clone(data)
				damaged[rapid.IntRange(0, n-1).Draw(rt, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
				m := textMatcher{key: message.Key{Where: message.InText, Needle: []byte("abcdef")}}
				_ = m.answer(damaged) // does not panic
				_ = m.answer(data[:rapid.IntRange(0, n-1).Draw(rt, "cut")])
			}
		}
	})
}

// A search in a header does not make room for the body, and what a key has taken
// the next one has.
func TestMatcherMemory(t *testing.T) {
	var p textPacker
	rec, err := openText(p.pack(&message.Text{Version: message.Version, Header: []byte("subject: x\n"), Body: bytes.Repeat([]byte("many words "), 1e5)}))
	if err != nil {
		t.Fatal(err)
	}
	m := textMatcher{key: message.Key{Where: message.InHeader, Name: "subject", Needle: []byte("y")}}
	if _, err := m.match(&rec); err != nil || cap(m.buf) > 1000 {
		t.Errorf("%d octets, error %v", cap(m.buf), err)
	}
	m.key = message.Key{Where: message.InText, Needle: []byte("never")}
	if _, err := m.match(&rec); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = m.match(&rec) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

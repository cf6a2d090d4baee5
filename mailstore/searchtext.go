package mailstore

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/textindex"
	"github.com/rookery-mail/rookery/message"
)

// Bounds of a search for text.
const (
	narrowFrom  = 64  // messages in question with which the index is worth asking
	searchChunk = 256 // messages that are looked into in one View
)

// asked is a message that a search looks into.
type asked struct {
	msg uint64
	pos int32 // in the view
}

// searchText answers whether texts match a term, for messages that are AnswerOpen.
// The index rules most of them out; into the others it looks, with as many
// processors as no other search uses. What only the message itself can tell
// stays open, and so does what is gone.
func (a *account) searchText(ctx context.Context, view *mailindex.Snapshot, term *Term, answers []Answer) error {
	s := &textSearch{a: a, key: *term.Text, answers: answers, texts: a.textsUpTo()}
	for p := range view.Pages() {
		for i, msg := range p.Msgs {
			if pos := p.First + i; answers[pos] == AnswerOpen {
				s.in = append(s.in, asked{msg, int32(pos)})
			}
		}
	}
	if err := s.narrow(ctx); err != nil || term.Narrow {
		return err
	}
	return s.run(ctx)
}

// narrow answers for those that the index rules out.
func (s *textSearch) narrow(ctx context.Context) error {
	needle := s.key.Needle
	if s.key.Where != message.InHeader && bytes.IndexByte(needle, '\r') >= 0 {
		needle = bytes.ReplaceAll(needle, []byte("\r\n"), []byte{'\n'}) // as texts have it
	}
	if len(needle) < textindex.MinNeedle || len(s.in) < narrowFrom {
		return nil
	}
	low, high := s.in[0].msg, s.in[0].msg
	for _, q := range s.in {
		low, high = min(low, q.msg), max(high, q.msg)
	}
	may, err := s.a.candidates(ctx, needle, low, high)
	if err != nil {
		return err
	}
	s.in = slices.DeleteFunc(s.in, func(q asked) bool {
		if !may.excludes(q.msg) {
			return false
		}
		s.answers[q.pos] = AnswerNo
		return true
	})
	return nil
}

// candidates are the messages that may hold a needle, by segments of the text
// index.
type candidates struct {
	sets []candidateSet // by the messages that they cover
	hint int            // the set of the last message that was asked about
}

type candidateSet struct {
	first, last uint64
	set         textindex.Set
}

// excludes reports whether a message cannot hold the needle.
func (c *candidates) excludes(msg uint64) bool {
	for step := range len(c.sets) {
		i := (c.hint + step) % len(c.sets)
		if s := &c.sets[i]; s.first <= msg && msg <= s.last {
			c.hint = i
			return !s.set.Has(msg)
		}
	}
	return false
}

// candidates asks the index about the messages from low to high. What it does
// not cover, or cannot be read, excludes nothing.
func (a *account) candidates(ctx context.Context, needle []byte, low, high uint64) (c candidates, err error) {
	// One View sees directory and pages together; it is held for a few segments.
	const most = 4
	for next := low; next <= high; {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		more := false
		var got []candidateSet
		err := a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
			got, more = nil, false
			dir, err := a.currentDirectory(r)
			if err != nil {
				return err
			}
			i := dir.find(next)
			for ; i < len(dir.segments) && len(got) < most && dir.segments[i].First <= high; i++ {
				seg := &dir.segments[i]
				set, err := textindex.Search(&pageSource{r: r, seg: seg.num}, &seg.Segment, needle)
				if err != nil && !damagedIndex(err) {
					return err
				}
				if err != nil {
					a.mendIndex(err)
				} else {
					got = append(got, candidateSet{seg.First, seg.Last, set})
				}
				next = seg.Last + 1
			}
			more = i < len(dir.segments)
			return nil
		})
		if damagedIndex(err) {
			a.mendIndex(err)
			return c, nil
		}
		if err != nil {
			return c, err
		}
		c.sets = append(c.sets, got...)
		if !more {
			break
		}
	}
	return c, nil
}

// currentDirectory reads the directory of the text index; that of an index of
// another version is empty.
func (a *account) currentDirectory(r driver.Reader) (directory, error) {
	var d textDeriver
	data, ok, err := r.Get(markKey(&d))
	if err != nil || !ok {
		return directory{}, err
	}
	p, err := decodeProgress(data)
	if err != nil || p.version != d.version() {
		return directory{}, err
	}
	return readDirectory(r)
}

// mendIndex has the index built anew; until that is done, searches look into all
// messages.
func (a *account) mendIndex(err error) {
	for i, d := range a.store.derivers {
		if _, ok := d.(*textDeriver); ok {
			a.deriveAnew(i, err)
		}
	}
}

// textSearch looks into the texts of messages.
type textSearch struct {
	a       *account
	key     message.Key
	in      []asked
	answers []Answer
	texts   uint64       // up to this message there are texts
	next    atomic.Int64 // chunks that have been begun
}

// run looks into all messages. The caller's goroutine does what there is to do,
// and others help as far as processors are idle.
func (s *textSearch) run(ctx context.Context) error {
	chunks := (len(s.in) + searchChunk - 1) / searchChunk
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var helpers sync.WaitGroup
	for range min(chunks, runtime.GOMAXPROCS(0)) - 1 {
		select {
		case s.a.store.searchSlots <- struct{}{}:
			helpers.Go(func() {
				defer func() { <-s.a.store.searchSlots }()
				if err := guard(func() error { return s.work(ctx) }); err != nil {
					cancel(err)
				}
			})
			continue
		default:
		}
		break
	}
	if err := s.work(ctx); err != nil {
		cancel(err)
	}
	helpers.Wait()
	return context.Cause(ctx)
}

// work looks into chunks until there is none left.
func (s *textSearch) work(ctx context.Context) error {
	m := s.a.store.takeMatcher(s.key)
	defer s.a.store.putMatcher(m)
	for {
		from := int(s.next.Add(1)-1) * searchChunk
		if from >= len(s.in) {
			return nil
		}
		chunk := s.in[from:min(from+searchChunk, len(s.in))]
		var late []lateMessage
		err := s.a.store.kv.View(ctx, s.a.num, func(r driver.Reader) (err error) {
			if err = s.look(r, m, chunk); err == nil {
				late, err = s.lateOnes(r, chunk)
			}
			return err
		})
		if err == nil {
			err = s.lookLate(ctx, late)
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		runtime.Gosched() // others wait for less than a chunk
	}
}

// keepMatcher is how much memory a textMatcher may have to be used again: most
// texts have room there, and a search that asks for key after key takes it once.
const keepMatcher = 2 << 20

func (s *Store) takeMatcher(key message.Key) *textMatcher {
	m, ok := s.matchers.Get().(*textMatcher)
	if !ok {
		m = new(textMatcher)
	}
	m.key = key
	return m
}

func (s *Store) putMatcher(m *textMatcher) {
	m.key = message.Key{}
	if cap(m.buf) <= keepMatcher {
		s.matchers.Put(m)
	}
}

// look looks into the messages of a chunk.
func (s *textSearch) look(r driver.Reader, m *textMatcher, chunk []asked) error {
	if !adjacent(chunk) {
		for _, q := range chunk {
			data, ok, err := r.Get(numKey(keyText, q.msg))
			if err != nil && !isDamage(err) {
				return err
			}
			if ok && err == nil {
				s.answers[q.pos] = m.answer(data)
			}
		}
		return nil
	}
	err := scanRange(r, numKey(keyText, chunk[0].msg), numKey(keyText, chunk[len(chunk)-1].msg+1), func(key, data []byte) error {
		msg := numOfKey(key)
		for chunk[0].msg < msg {
			chunk = chunk[1:]
		}
		if chunk[0].msg == msg {
			s.answers[chunk[0].pos] = m.answer(data)
		}
		return nil
	})
	if isDamage(err) {
		return nil // what has no answer is read as a message
	}
	return err
}

// adjacent reports whether one scan is cheaper than a look-up for each.
func adjacent(chunk []asked) bool {
	n := len(chunk)
	if n < 4 || chunk[n-1].msg-chunk[0].msg > 3*uint64(n) {
		return false
	}
	for i := 1; i < n; i++ {
		if chunk[i].msg <= chunk[i-1].msg {
			return false
		}
	}
	return true
}

// answer looks into one text.
func (m *textMatcher) answer(data []byte) Answer {
	t, err := openText(data)
	if err != nil {
		return AnswerOpen
	}
	found, err := m.match(&t)
	switch {
	case err != nil || t.version < message.Version:
		return AnswerOpen
	case found:
		return AnswerYes
	case t.truncated:
		return AnswerOpen
	}
	return AnswerNo
}

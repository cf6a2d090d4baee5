// Package mailimport brings mail from files into an account: each message once,
// however often the import is run, and none that the user has deleted since.
//
// It knows neither the files' formats (packages maildir and mbox do) nor where
// the mail goes: a [Target] is the store in this process or a server that is
// asked through the admin socket. Start with [Maildir] and [Mbox].
package mailimport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crlf"
)

// Target is the account into which mail is imported.
type Target interface {
	// Prepare makes a mailbox, with its parents, where it is missing, and
	// subscribes to what it has made.
	Prepare(ctx context.Context, mailbox string) error
	// Known reports which of the keys have been imported before, whatever has
	// become of the messages since.
	Known(ctx context.Context, keys []string) ([]bool, error)
	// Import adds messages with their keys, all or none, and returns when that
	// is durable. Messages that have become known meanwhile are left out.
	Import(ctx context.Context, mailbox string, items []Item) error
}

// MaxBatch and MaxBatchBytes bound what one call of Import gets; a message of
// more bytes comes alone.
const (
	MaxBatch      = 100
	MaxBatchBytes = 4 << 20
)

// An Item is one message to import.
type Item struct {
	Key   string // names the message for good, within the account
	Flags []imap.Flag
	Date  imap.Time // internal date; zero means now
	Size  int64     // exact, with CRLF
	// Open returns the bytes. It is called once for each item of a batch, in
	// their order, and read to the end before the next.
	Open func() (io.ReadCloser, error)
}

// A Reporter hears how an import goes on. Its methods are called from one
// goroutine.
type Reporter interface {
	// Progress says how much of the whole is done, in messages or, for an mbox,
	// in bytes.
	Progress(done, total int64)
	// Note tells of something odd: a message that is broken (and was imported
	// as it is), a name that had to be changed.
	Note(text string)
}

// A Result counts what an import has done.
type Result struct {
	Mailboxes int   // that messages went to, or that were made
	Imported  int   // messages
	Known     int   // messages that had been imported before
	Bytes     int64 // of the messages imported
	Odd       int   // messages of those that are broken, and what could not be read
	Unread    int   // files and folders that could not be read, and were not imported
}

// candidate is a message that may be imported.
type candidate struct {
	key   string
	flags []imap.Flag
	date  imap.Time
	where string // for people
	open  func() (io.ReadCloser, error)
}

// importer gathers batches for one mailbox.
type importer struct {
	target  Target
	mailbox string
	report  Reporter
	result  *Result
	notes   []string // on the mailbox, told when something new comes into it

	prepared bool // the mailbox
	waiting  []candidate
	batch    []Item
	bytes    int64
}

// knownAtOnce is how many keys are asked about in one call.
const knownAtOnce = 500

// add takes a message; it may be imported later.
func (im *importer) add(ctx context.Context, c candidate) error {
	im.waiting = append(im.waiting, c)
	if len(im.waiting) < knownAtOnce {
		return nil
	}
	return im.drain(ctx)
}

// flush imports all that waits.
func (im *importer) flush(ctx context.Context) error {
	if err := im.drain(ctx); err != nil {
		return err
	}
	return im.send(ctx)
}

// drain looks which of the waiting messages are new and puts those into
// batches.
func (im *importer) drain(ctx context.Context) error {
	if len(im.waiting) == 0 {
		return nil
	}
	keys := make([]string, len(im.waiting))
	for i, c := range im.waiting {
		keys[i] = c.key
	}
	known, err := im.target.Known(ctx, keys)
	if err != nil {
		return err
	}
	if len(known) != len(keys) {
		return fmt.Errorf("asked about %d messages, got an answer about %d", len(keys), len(known))
	}
	for i, c := range im.waiting {
		if known[i] {
			im.result.Known++
			continue
		}
		if err := im.take(ctx, c); err != nil {
			return err
		}
	}
	im.waiting = im.waiting[:0]
	return nil
}

// take puts a message into the batch.
func (im *importer) take(ctx context.Context, c candidate) error {
	item, oddity, err := prepare(c)
	if err != nil {
		// One file that cannot be read must not keep the others out, and a
		// second run will try it again.
		im.result.Unread++
		im.result.Odd++
		if errors.Is(err, fs.ErrNotExist) {
			im.report.Note(fmt.Sprintf("%s: it was taken away while the import was running", c.where))
			return nil
		}
		im.report.Note(fmt.Sprintf("%s: NOT imported, because it cannot be read: %v", c.where, err))
		return nil
	}
	for _, note := range im.notes {
		im.report.Note(note)
	}
	im.notes = nil
	if oddity != "" {
		im.result.Odd++
		im.report.Note(fmt.Sprintf("%s: %s; imported as it is", c.where, oddity))
	}
	if len(im.batch) > 0 && (len(im.batch) >= MaxBatch || im.bytes+item.Size > MaxBatchBytes) {
		if err := im.send(ctx); err != nil {
			return err
		}
	}
	im.batch = append(im.batch, item)
	im.bytes += item.Size
	return nil
}

// prepare makes the mailbox. It is not called for one all of whose messages
// have been imported before: where that is missing, the user has deleted it.
func (im *importer) prepare(ctx context.Context) error {
	if im.prepared {
		return nil
	}
	im.prepared = true
	im.result.Mailboxes++
	return im.target.Prepare(ctx, im.mailbox)
}

func (im *importer) send(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	if err := im.prepare(ctx); err != nil {
		return err
	}
	if err := im.target.Import(ctx, im.mailbox, im.batch); err != nil {
		return err
	}
	im.result.Imported += len(im.batch)
	im.result.Bytes += im.bytes
	im.batch, im.bytes = nil, 0
	return nil
}

// inMemory is the size up to which a message is read once and kept until its
// batch is done; larger ones are read again.
const inMemory = 1 << 20

// prepare reads a message, turns its line ends and looks whether it is sound.
func prepare(c candidate) (Item, string, error) {
	item := Item{Key: c.key, Flags: c.flags, Date: c.date}
	file, err := c.open()
	if err != nil {
		return item, "", err
	}
	defer file.Close()
	var look inspector
	var kept bytes.Buffer
	turned := io.TeeReader(crlf.NewReader(file), &look)
	n, err := io.Copy(&kept, io.LimitReader(turned, inMemory+1))
	if err != nil {
		return item, "", err
	}
	if n <= inMemory {
		item.Size = n
		item.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept.Bytes())), nil }
		return item, look.oddity(), nil
	}
	rest, err := io.Copy(io.Discard, turned)
	if err != nil {
		return item, "", err
	}
	item.Size = n + rest
	item.Open = func() (io.ReadCloser, error) {
		file, err := c.open()
		if err != nil {
			return nil, err
		}
		return readCloser{crlf.NewReader(file), file}, nil
	}
	return item, look.oddity(), nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// inspector is a Writer that looks for what is wrong with a message.
type inspector struct {
	first []byte // the beginning
	nul   bool
	size  int64
}

// Write implements io.Writer.
func (in *inspector) Write(p []byte) (int, error) {
	if room := 1024 - len(in.first); room > 0 {
		in.first = append(in.first, p[:min(room, len(p))]...)
	}
	in.size += int64(len(p))
	in.nul = in.nul || bytes.IndexByte(p, 0) >= 0
	return len(p), nil
}

// oddity says what is wrong with the message, or "".
func (in *inspector) oddity() string {
	line, _, _ := bytes.Cut(in.first, []byte("\r\n"))
	name, _, colon := bytes.Cut(line, []byte(":"))
	switch {
	case in.size == 0:
		return "it is empty"
	case bytes.HasPrefix(in.first, []byte("\x1f\x8b")):
		return "it is compressed (gzip): unpack the files first and import them then, if mail is to be read here"
	case in.nul:
		return "it has NUL bytes"
	case len(line) == 0:
		return "it has no header"
	case len(line) < 1000 && (!colon || bytes.ContainsAny(bytes.TrimRight(name, " \t"), " \t")):
		return "it does not begin with a header field"
	}
	return ""
}

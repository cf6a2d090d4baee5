package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// How often the files of a store are looked for, and after how many looks also where
// nothing seems to have changed; and how long one may take, which writes again what it
// can. A look at folders in which no name has come or gone costs a stat for each.
const (
	lookPause = 10 * time.Second
	lookAll   = 6
	lookTime  = time.Minute
)

// A watch looks now and then whether the files of a store are in the data folder while
// the store is open: nothing else would fail if somebody removed them, and what is
// written to a file without a name is lost. This is the one place for that; the engines
// know their files, and what can be done.
type watch struct {
	s    *storage
	log  *slog.Logger
	stop func()

	missing, saved atomic.Int64 // files that are gone now; that were, and are back since

	mu   sync.Mutex // held by who looks
	seen durable.Observer
	told map[string]loss // what is gone still, by file
}

// A loss is a file that was not where it belongs.
type loss struct {
	file  string
	text  string // what that means, and what is to be done
	saved bool
	err   error // why not
}

// startWatch begins to look after a store that is open.
func startWatch(s *storage, log *slog.Logger) *watch {
	w := &watch{s: s, log: log}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(lookPause)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.look(ctx, n%lookAll == 0)
			}
		}
	}()
	w.stop = func() {
		cancel()
		<-done
	}
	return w
}

// end looks for the last time, before the store is closed: what has no name then is
// lost.
func (w *watch) end() {
	w.stop()
	w.look(context.Background(), true)
}

// look looks at once, does what can be done, logs what is new, and returns what was not
// as it should be. With all it does so also where nothing seems to have changed.
func (w *watch) look(ctx context.Context, all bool) []loss {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	list, err := w.find(ctx, all)
	if err != nil {
		// What is gone on a disk that fails is not known; others say that it fails.
		w.log.Debug("whether files of the store are gone is not known", "err", err)
		for _, l := range w.told {
			if !slices.ContainsFunc(list, func(other loss) bool { return other.file == l.file }) {
				list = append(list, l)
			}
		}
	}
	w.tell(ctx, list)
	return list
}

// find asks all who have files.
func (w *watch) find(ctx context.Context, all bool) (list []loss, err error) {
	s := w.s
	if w.seen.Changed(s.dir.FS(), s.dir.Join()) || all || w.told[s.dir.Join()].file != "" {
		mended, err := s.dir.Look()
		for _, name := range mended {
			list = append(list, loss{file: s.dir.Join(name), saved: true, text: "it was gone or changed while the store was open; it has been written again, and nothing is lost"})
		}
		switch {
		case imap.KindOf(err) == imap.ContactAdmin:
			return append(list, loss{file: s.dir.Join(), text: "the data folder is not where it was", err: plain(err)}), nil
		case err != nil:
			return list, err
		}
	}
	segments, err := s.blobs.Look(ctx, all)
	for _, m := range segments {
		l := loss{file: s.dir.Join(messagesDir, m.File), saved: m.Saved, err: m.Err,
			text: "this file of messages was removed or replaced while the store was open; it has been written again, and nothing is lost"}
		if m.Other != "" {
			l.text += "; what was in its place is called " + m.Other + " now"
		}
		if !m.Saved {
			l.text = "this file of messages is gone, and could not be written again: leave the server running, which tries it again, and put the file back, or else restore a backup"
		}
		list = append(list, l)
	}
	tables, failed := s.kv.Look(ctx, all)
	return append(list, w.ofIndex(tables)...), errors.Join(err, failed)
}

// ofIndex says what it means that files of the index and of its journal are gone.
func (w *watch) ofIndex(files []pebblekv.Missing) (list []loss) {
	ofJournal := func(m pebblekv.Missing) bool { return filepath.Base(filepath.Dir(m.File)) == journalDir }
	journal := !slices.ContainsFunc(files, func(m pebblekv.Missing) bool { return ofJournal(m) && !m.Saved })
	for _, m := range files {
		l := loss{file: m.File, saved: m.Saved, err: m.Err}
		switch {
		case ofJournal(m) && m.Saved:
			l.text = "files of the journal of the index were removed or replaced while the store was open; a new state of the index has been saved in it, and nothing is lost"
		case ofJournal(m):
			l.text = "files of the journal of the index are gone, and a new state could not be saved in it; it is tried again"
		case m.Saved:
			l.text = "this file of the index was removed or replaced while the store was open; what it had is in other files, and nothing is lost"
		case errors.Is(m.Err, pebblekv.ErrCannotSave) && journal:
			l.err = nil
			l.text = fmt.Sprintf("this file of the index is gone, and without it the index cannot be opened again. The journal of the index has all that was acknowledged: stop the server, and run `rookery check --repair --data %s`", w.s.dir.Join())
		default:
			l.text = "this file of the index is gone, and what it had could not be written elsewhere: leave the server running, which tries again what it can; `rookery check --repair` makes the index again when the server is stopped"
		}
		list = append(list, l)
	}
	return list
}

// tell logs what is new, in few lines, and counts.
func (w *watch) tell(ctx context.Context, list []loss) {
	told := make(map[string]loss)
	var missing, saved int64
	news := make(map[string][]loss) // by what is to be said
	var order []string
	for _, l := range list {
		before, known := w.told[l.file]
		if l.saved {
			saved++
		} else {
			missing++
			told[l.file] = l
		}
		if known && before.text == l.text {
			continue
		}
		if news[l.text] == nil {
			order = append(order, l.text)
		}
		news[l.text] = append(news[l.text], l)
	}
	for _, text := range order {
		w.say(text, news[text])
	}
	lost := false // messages, or they are back
	for file, l := range w.told {
		if _, still := told[file]; still {
			continue
		}
		lost = lost || w.ofMessages(file)
		if !slices.ContainsFunc(list, func(other loss) bool { return other.file == file }) {
			saved++
			w.log.Info("a file is where it belongs again", "file", file, "was", l.text)
		}
	}
	for file := range told {
		_, known := w.told[file]
		lost = lost || !known && w.ofMessages(file)
	}
	w.told = told
	w.missing.Store(missing)
	w.saved.Add(saved)
	if lost {
		w.count(ctx)
	}
}

// say logs what is to be said of some files.
func (w *watch) say(text string, list []loss) {
	const most = 10
	var files []string
	var err error
	for _, l := range list {
		if len(files) < most {
			files = append(files, l.file)
		}
		if err == nil {
			err = l.err
		}
	}
	args := []any{"files", files, "number", len(list)}
	if err != nil {
		args = append(args, "err", err)
	}
	w.log.Error("files are gone from the data folder, or others are in their place: "+text, args...)
}

func (w *watch) ofMessages(file string) bool {
	return filepath.Dir(file) == filepath.Clean(w.s.dir.Join(messagesDir))
}

// count says which mail is hit by files of messages that are gone.
func (w *watch) count(ctx context.Context) {
	if w.s.store == nil {
		return
	}
	n, accounts, err := w.s.store.CountMissing(ctx)
	switch {
	case err != nil:
		w.log.Debug("the messages in files that are gone cannot be counted", "err", err)
	case n > 0:
		w.log.Error("messages cannot be read, since their files are gone; all others are served", "messages", n, "accounts", accounts)
	}
}

// defects are losses as a check tells them.
func defects(list []loss) (found []admin.Defect) {
	for _, l := range list {
		text := l.text
		if l.err != nil {
			text = fmt.Sprintf("%s (%v)", text, l.err)
		}
		found = append(found, admin.Defect{File: l.file, Text: text})
	}
	return found
}

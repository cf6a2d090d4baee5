package pebblekv

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
)

// LostLogs says what is missing in the logs of a store that nobody has open, of
// what is not in its tables yet: logs that are gone, damage behind which something
// says that it was on disk, and commits that only the journal's name of a log has.
// Pebble takes some of that for the end that a crash leaves, and would go on
// without the rest. [Open] refuses a store with a journal where anything is found,
// since the journal still has it.
//
// What it cannot read it says nothing of: opening the store tells. The error is of
// kind Unavailable, and means that the logs could not be looked at.
func LostLogs(disk vfs.FS, index, journal string) (lost []string, err error) {
	l := &logEnd{fs: disk, index: index}
	if err = l.findJournal(journal); err == nil {
		err = l.look()
	}
	if err != nil {
		return nil, imap.E("index logs", imap.Unavailable, fmt.Errorf("%s: %w", index, err))
	}
	return l.lost, nil
}

// logEnd is a look at the logs of a store.
type logEnd struct {
	fs      vfs.FS
	index   string
	journal string // the folder of its epoch, "" for none
	lost    []string
}

func (l *logEnd) found(format string, args ...any) {
	l.lost = append(l.lost, fmt.Sprintf(format, args...))
}

// unread is what may follow the last record of a log without being one: zeros up to the
// end of a block, and what ends a log. A commit takes more.
const unread = 2 * longHead

// findJournal finds the epoch of the store in the folder of its journal. A store that
// names none, or one that is not there, may have been put there by hand, out of a
// backup: the newest epoch shows what was there before. (A restore and a repair leave
// no epoch of another store.)
func (l *logEnd) findJournal(root string) error {
	if root == "" {
		return nil
	}
	own, err := readText(l.fs, l.fs.PathJoin(l.index, epochName))
	if err != nil || !isEpoch(own) {
		own = "" // lost or damaged, or there never was one
	}
	epochs, err := listEpochs(l.fs, root)
	if err != nil {
		return err
	}
	if slices.Contains(epochs, own) {
		l.journal = l.fs.PathJoin(root, own)
		return nil
	}
	for _, epoch := range epochs {
		dir := l.fs.PathJoin(root, epoch)
		names, err := l.fs.List(dir)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			continue // it was about to begin
		}
		if own != "" {
			l.found("it has the journal %s, which is gone; %s is that of another index", own, dir)
		}
		l.journal = dir
		return nil
	}
	return nil
}

func (l *logEnd) look() error {
	from, ok, err := firstNeeded(l.fs, l.index)
	if err != nil || !ok {
		return err
	}
	own, err := listLogs(l.fs, l.index)
	if err != nil {
		return err
	}
	linked, err := l.linked()
	if err != nil {
		return err
	}
	known := make(map[uint64]bool)
	for _, log := range own {
		known[log.number] = true
	}
	for _, log := range linked {
		if log.number < from || known[log.number] {
			continue
		}
		// One that has nothing may have been on its way when the power went.
		if hasBatches(l.fs, l.journal, log.number) {
			l.found("the log %s is gone, and the journal has it", l.fs.PathJoin(l.index, logName(log.number)))
		}
	}
	noted, bytes := uint64(0), uint64(0)
	if l.journal != "" {
		noted, bytes = readOnDisk(l.fs, l.journal)
	}
	gone := noted >= from && bytes > 0 && !known[noted]
	if gone && !slices.ContainsFunc(linked, func(log journalLog) bool { return log.number == noted }) {
		l.found("the log %s is gone under all of its names, and had %d bytes", l.fs.PathJoin(l.index, logName(noted)), bytes)
	}
	slices.SortFunc(own, func(x, y journalLog) int { return cmp.Compare(x.number, y.number) })
	for _, log := range own {
		if log.number < from {
			continue
		}
		copied := slices.ContainsFunc(linked, func(j journalLog) bool { return j.number == log.number })
		least := uint64(0)
		if log.number == noted {
			least = bytes
		}
		if err := l.log(log, copied, least); err != nil {
			return err
		}
	}
	return nil
}

// linked returns the logs that the journal has.
func (l *logEnd) linked() ([]journalLog, error) {
	if l.journal == "" {
		return nil, nil
	}
	list, err := listLogs(l.fs, l.journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// log looks at one log, of which so many bytes were on disk at least, and at what the
// journal has under its number: mostly it is one file.
func (l *logEnd) log(log journalLog, copied bool, least uint64) error {
	data, err := readFile(l.fs, log.path, nil)
	if err != nil {
		return err
	}
	end, _, damage := readToEnd(data, log.number)
	if damage != "" {
		l.found("the log %s is damaged: %s", log.path, damage)
		return nil
	}
	if least > end+unread {
		l.found("the log %s can be read up to %d, and had %d bytes", log.path, end, least)
		return nil
	}
	if !copied {
		return nil
	}
	path := l.fs.PathJoin(l.journal, logName(log.number))
	if data, err = readFile(l.fs, path, data); err != nil {
		return err
	}
	if _, synced, _ := readToEnd(data, log.number); synced > end+unread {
		l.found("the log %s has lost its end, and %s has it", log.path, path)
	}
	return nil
}

// readToEnd reads a log as far as Pebble would: to end. damage is what ends it too
// early, "" for nothing (then end may be in a record), and synced up to where it was on disk at least.
func readToEnd(data []byte, number uint64) (end, synced uint64, damage string) {
	scan := &logScan{data: data, num: uint32(number)}
	next := uint64(0)
	harmless := true // what is damaged had no commit
	for {
		repr, _, err := scan.next()
		if hole, ok := errors.AsType[*logHole](err); ok {
			if damage == "" {
				damage, end = hole.Error(), uint64(scan.whole)
			}
			harmless = false
			continue
		}
		if err != nil {
			break
		}
		h, ok := batchrepr.ReadHeader(repr)
		switch {
		case !ok:
		case damage == "":
			next = max(next, uint64(h.SeqNum)+uint64(h.Count))
		case h.Count > 0:
			return end, scan.synced, damage // Pebble does not come so far
		default: // a mark, which says what number is next
			harmless = next != 0 && uint64(h.SeqNum) == next
		}
	}
	if harmless {
		damage, end = "", uint64(scan.whole)
	}
	return end, scan.synced, damage
}

// Tags of a manifest's records, as RocksDB has them: what stands before the lists of
// tables.
const (
	tagComparator  = 1
	tagLogNumber   = 2
	tagNextFile    = 3
	tagPreviousLog = 9
)

// firstNeeded returns the number of the first log that has what is not in tables.
// ok is false where there is no store, or none that can be opened.
func firstNeeded(disk vfs.FS, index string) (number uint64, ok bool, err error) {
	there, err := pebble.Peek(index, disk)
	if err != nil || !there.Exists {
		return 0, false, nil
	}
	data, err := readFile(disk, there.ManifestFilename, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	edits := record.NewReader(bytes.NewReader(data), 0)
	for {
		r, err := edits.Next()
		if err != nil {
			return number, true, nil // its end, also that of a crash
		}
		edit, err := io.ReadAll(r)
		if err != nil {
			return number, true, nil
		}
		if n := editedLog(edit); n != 0 {
			number = n
		}
	}
}

// editedLog returns the number of the first log that is needed, which a record of a
// manifest may have at its beginning, or 0.
func editedLog(edit []byte) uint64 {
	for len(edit) > 0 {
		tag, n := binary.Uvarint(edit)
		if n <= 0 {
			return 0
		}
		value, m := binary.Uvarint(edit[n:])
		if m <= 0 {
			return 0
		}
		edit = edit[n+m:]
		switch tag {
		case tagLogNumber:
			return value
		case tagComparator: // a text, behind its length
			if value > uint64(len(edit)) {
				return 0
			}
			edit = edit[value:]
		case tagPreviousLog, tagNextFile:
		default:
			return 0
		}
	}
	return 0
}

package pebblekv

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// This file replays the logs of a journal. Each commit has a sequence number, and
// there are no gaps between them, so what is damaged or gone is only missed where the
// numbers say so. What comes behind it counts: keys have whole values, and who reads
// them knows which accounts have lost something.

// journalLog is a log that a journal has, or ought to have.
type journalLog struct {
	number uint64
	path   string // "" where it is gone
	size   int64
}

// logs replays the logs from one on.
func (p *replay) logs(ctx context.Context, from uint64) error {
	list, err := p.list(from)
	if err != nil {
		return err
	}
	for i, l := range list {
		if l.path == "" {
			p.hole = fmt.Sprintf("%s is missing", p.fs.PathJoin(p.dir, logName(l.number)))
			p.report.problem("%s", p.hole)
			continue
		}
		limit := ^uint64(0)
		for _, later := range list[i+1:] {
			if first, ok := p.first(later); ok {
				// What the store found here when it was opened again ended there.
				limit = first
				break
			}
		}
		if err := p.log(ctx, l, limit); err != nil {
			return err
		}
		p.report.Logs++
	}
	p.end(list)
	return nil
}

// list returns the logs from one on, with those that are missing.
func (p *replay) list(from uint64) ([]journalLog, error) {
	known := make(map[uint64]journalLog)
	if !p.all { // otherwise only those count that were ever here
		known[from] = journalLog{number: from}
	}
	own, err := listLogs(p.fs, p.dir)
	if err != nil {
		return nil, err
	}
	for _, l := range own {
		known[l.number] = l
	}
	begun := readLogs(p.fs, p.dir, begunName)
	for _, l := range begun {
		if _, ok := known[l.number]; !ok {
			known[l.number] = journalLog{number: l.number}
		}
	}
	if !p.all {
		p.complement(known, begun)
	}
	var list []journalLog
	for _, l := range known {
		if l.number >= from {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(x, y journalLog) int { return cmp.Compare(x.number, y.number) })
	return list, nil
}

func listLogs(disk vfs.FS, dir string) (list []journalLog, err error) {
	names, err := disk.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		number, ok := parseLog(name)
		if !ok {
			continue
		}
		path := disk.PathJoin(dir, name)
		info, err := disk.Stat(path)
		if err != nil {
			continue // it has just gone
		}
		list = append(list, journalLog{number, path, info.Size()})
	}
	return list, nil
}

// complement takes logs from the store's own folder that the journal lacks or has
// a shorter file of. Mostly both are one file.
func (p *replay) complement(known map[uint64]journalLog, begun []logSize) {
	if name, err := readText(p.fs, p.fs.PathJoin(p.index, epochName)); err != nil || name != p.report.Epoch {
		return
	}
	own, err := listLogs(p.fs, p.index)
	if err != nil {
		return
	}
	for _, l := range own {
		// Nobody knows who wrote one that was not begun with the journal.
		mine := slices.ContainsFunc(begun, func(b logSize) bool { return b.number == l.number })
		if k := known[l.number]; mine && (k.path == "" || k.size < l.size) {
			known[l.number] = l
		}
	}
}

// readFile reads a file into buf, if it is long enough for it.
func readFile(disk vfs.FS, path string, buf []byte) ([]byte, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := int(info.Size())
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	n, err := io.ReadFull(f, buf[:size])
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil // it has become shorter meanwhile
	}
	return buf[:n], err
}

// hasBatches reports whether a log of a folder has anything that can be read.
func hasBatches(disk vfs.FS, dir string, number uint64) bool {
	data, err := readFile(disk, disk.PathJoin(dir, logName(number)), nil)
	if err != nil {
		return false
	}
	for scan := (&logScan{data: data, num: uint32(number)}); ; {
		rec, _, err := scan.next()
		if err != nil {
			return false
		}
		if h, ok := batchrepr.ReadHeader(rec); ok && h.Count > 0 {
			return true
		}
	}
}

// first returns the sequence number that a log begins with: the first chunk has it,
// also where nothing was committed then.
func (p *replay) first(l journalLog) (uint64, bool) {
	if l.path == "" {
		return 0, false
	}
	f, err := p.fs.Open(l.path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, logBlock))
	c, ok := (&logScan{data: data, num: uint32(l.number)}).chunkAt(0)
	if err != nil || !ok || len(c.data) < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(c.data), true
}

// log replays one log, up to the batch with the number limit.
func (p *replay) log(ctx context.Context, l journalLog, limit uint64) error {
	name := p.fs.PathJoin(p.dir, logName(l.number))
	data, err := readFile(p.fs, l.path, p.buf)
	if err != nil {
		p.hole = fmt.Sprintf("%s cannot be read: %v", name, err)
		return ctx.Err()
	}
	p.buf = data
	for scan := (&logScan{data: data, num: uint32(l.number)}); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		repr, off, err := scan.next()
		switch {
		case err == io.EOF || err == errTorn:
			if number, bytes := readOnDisk(p.fs, p.dir); number == l.number && bytes > uint64(scan.whole)+unread {
				p.hole = fmt.Sprintf("%s is damaged: it can be read up to %d, and had %d bytes", name, scan.whole, bytes)
			} else if err == errTorn {
				p.torn = l.number
			}
			return nil
		case err != nil:
			p.hole = fmt.Sprintf("%s is damaged: %v", name, err)
			continue
		}
		h, ok := batchrepr.ReadHeader(repr)
		if !ok {
			p.hole = fmt.Sprintf("%s has no batch at %d", name, off)
			continue
		}
		seq := uint64(h.SeqNum)
		if h.Count == 0 { // a mark
			continue
		}
		if seq >= limit {
			return nil
		}
		p.at = l.number
		if err := p.batch(seq, uint64(h.Count), repr, name); err != nil {
			return fmt.Errorf("%s at %d: %w", name, off, err)
		}
	}
}

// batch takes in a batch, in its turn.
func (p *replay) batch(seq, count uint64, repr []byte, name string) error {
	if p.next != 0 && seq < p.next {
		// It is in the state that the journal begins with, so damage before it does
		// not matter.
		p.hole = ""
		return nil
	}
	switch {
	case p.next == 0 && p.hole == "" || seq == p.next:
	case p.torn != 0 && p.hole == "" && seq <= p.start:
		// A crash took the end, and a state was saved after it.
	case p.hole != "":
		p.report.problem("%s", p.hole)
		p.lose()
	default:
		p.report.problem("commits are missing before %s (the number %d comes behind %d)", name, seq, p.next)
		p.lose()
	}
	p.hole, p.torn = "", 0
	p.next = seq + count
	if seq < p.start {
		return nil
	}
	p.report.Batches++
	return p.apply(repr)
}

// end looks whether the journal ends where it should: with all logs, as long as they
// were when the store was closed in order, where it was.
func (p *replay) end(list []journalLog) {
	lost := p.hole != ""
	if lost {
		p.report.problem("%s", p.hole)
	}
	if len(list) == 0 {
		return
	}
	last := list[len(list)-1]
	closed := readLogs(p.fs, p.dir, closedName)
	for _, c := range closed {
		i := slices.IndexFunc(list, func(l journalLog) bool { return l.number == c.number && l.path != "" && l.size != c.size })
		if i >= 0 {
			p.report.problem("the end of %s is missing", p.fs.PathJoin(p.dir, logName(c.number)))
			lost = lost || c.number >= p.at
		}
	}
	if len(closed) > 0 && p.torn == last.number && closed[len(closed)-1].number == last.number {
		p.report.problem("the end of %s is damaged", p.fs.PathJoin(p.dir, logName(last.number)))
		lost = true
	}
	p.report.Torn = p.torn != 0
	if lost {
		p.lose()
	}
}

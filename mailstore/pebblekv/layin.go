package pebblekv

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// LayIn writes what has ridden with the messages (see [Rider]) into the logs of a store
// that nobody has open, and of its journal, where it is missing after a crash, and syncs
// them. Only then do the logs say all that was acknowledged: whoever reads them calls it
// before. It may be interrupted anywhere, and be called again. A store that is opened
// with Options.Blobs does it by itself.
//
// Pieces are written behind what a log has only, without a gap. Where there is one the
// journal gets proof that something is missing, and [LostLogs], which is to be called
// afterwards, says so. The error is of kind Unavailable.
func LayIn(ctx context.Context, disk vfs.FS, index, journal string, blobs driver.Blobs) error {
	rider, ok := blobs.(Rider)
	if !ok {
		return nil
	}
	ridden, err := readRidden(ctx, rider)
	if err == nil && len(ridden) > 0 { // else nobody need know of what the logs are
		var folders []logFolder
		if folders, err = findFolders(disk, index, journal); err == nil {
			err = layIn(ctx, disk, folders, ridden)
		}
	}
	return layInError(index, err)
}

func layInError(index string, err error) error {
	if err == nil {
		return nil
	}
	return imap.E("index logs", imap.Unavailable, fmt.Errorf("%s: what was kept of its log beside the messages cannot be put back: %w", index, err))
}

// A logFolder has logs of an opening of the store.
type logFolder struct {
	dir     string
	opening opening
	proofs  string // the folder of the journal that is told what these logs had, "" for none
}

// findFolders returns the folders that have logs of an opening that is known.
func findFolders(disk vfs.FS, index, journal string) ([]logFolder, error) {
	own := &logEnd{fs: disk, index: index}
	if err := own.findJournal(journal); err != nil {
		return nil, err
	}
	folders := []logFolder{{dir: index, proofs: own.journal}}
	if journal != "" {
		epochs, err := listEpochs(disk, journal)
		if err != nil {
			return nil, err
		}
		for _, epoch := range epochs {
			dir := disk.PathJoin(journal, epoch)
			folders = append(folders, logFolder{dir: dir, proofs: dir})
		}
	}
	named := folders[:0]
	for _, f := range folders {
		var err error
		f.opening, err = readOpening(disk, f.dir)
		switch {
		case err == nil:
			named = append(named, f)
		case !errors.Is(err, fs.ErrNotExist) && err != errNoOpening:
			return nil, err
		}
	}
	return named, nil
}

// ridden is what has ridden of each log of each opening, by place.
type ridden map[opening]map[uint64][]piece

func readRidden(ctx context.Context, rider Rider) (ridden, error) {
	all := make(ridden)
	err := rider.Riders(ctx, func(p []byte, sure bool) error {
		if len(p) <= pieceHead {
			return nil
		}
		c := piece{
			log: binary.LittleEndian.Uint64(p[len(opening{}):]), off: int64(binary.LittleEndian.Uint64(p[len(opening{})+8:])),
			data: bytes.Clone(p[pieceHead:]), sure: sure,
		}
		logs := all[opening(p)]
		if logs == nil {
			logs = make(map[uint64][]piece)
			all[opening(p)] = logs
		}
		if c.off > 0 {
			logs[c.log] = append(logs[c.log], c)
		}
		return nil
	})
	for _, logs := range all {
		for _, list := range logs {
			slices.SortStableFunc(list, func(x, y piece) int { return cmp.Compare(x.off, y.off) })
		}
	}
	return all, err
}

// layIn lays in what has ridden of the logs in some folders.
func layIn(ctx context.Context, disk vfs.FS, folders []logFolder, all ridden) error {
	for _, f := range folders {
		there, err := listLogs(disk, f.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, log := range there { // others are done with; if not, LostLogs says so
			if err := ctx.Err(); err != nil {
				return err
			}
			had, err := layInto(disk, log, all[f.opening][log.number])
			if err == nil && had > 0 && f.proofs != "" {
				err = f.prove(disk, log.number, uint64(had))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// prove notes in the journal that a log had so many bytes on disk, if that says more
// than what is noted.
func (f *logFolder) prove(disk vfs.FS, log, bytes uint64) error {
	number, known := readOnDisk(disk, f.proofs)
	if number > log || number == log && known >= bytes {
		return nil
	}
	return writeOnDisk(disk, f.proofs, log, bytes)
}

// layInto writes the pieces of a log, which are in their order, into a file of it. It
// writes also what is there already: after a sync that has failed nobody knows what of it
// is on the disk.
//
// A piece that is there was written when all of the log before it was on disk, by itself
// or by what rode, whatever became of the piece. So a later one proves one that is not
// sure; and where the last is behind a gap, there was damage: had is how much of the log
// there was at least, else 0.
func layInto(disk vfs.FS, log journalLog, list []piece) (had int64, err error) {
	if len(list) == 0 {
		return 0, nil
	}
	data, err := readFile(disk, log.path, nil)
	if err != nil {
		return 0, err
	}
	scan := &logScan{data: data, num: uint32(log.number)}
	last := list[len(list)-1].off
	fits := list[:0:0]
	for _, p := range list {
		reach := scan.reach()
		if p.off > reach {
			break
		}
		if !p.sure && last < p.end() {
			continue // only the crash may have kept it
		}
		known := max(0, min(p.end(), int64(scan.whole))-p.off)
		if !bytes.Equal(scan.data[p.off:p.off+known], p.data[:known]) {
			break // what is there is whole, and something else
		}
		scan.data = append(scan.data, make([]byte, max(0, int(p.end())-len(scan.data)))...)
		copy(scan.data[p.off:], p.data)
		scan.pos = max(scan.pos, int(p.end()))
		scan.whole = max(scan.whole, int(p.end()))
		fits = append(fits, p)
	}
	if scan.reach() < last {
		had = last
	}
	if len(fits) == 0 {
		return had, nil
	}
	f, err := disk.OpenReadWrite(log.path, categoryJournal)
	if err != nil {
		return had, err
	}
	for _, p := range fits {
		if _, err := f.WriteAt(p.data, p.off); err != nil {
			return had, errors.Join(err, f.Close())
		}
	}
	return had, errors.Join(f.Sync(), f.Close())
}

// reach goes behind the last of the chunks that follow each other without a gap, and
// returns where that is.
func (s *logScan) reach() int64 {
	for {
		s.skipPadding()
		c, ok := s.chunkAt(s.pos)
		if !ok {
			return int64(s.pos)
		}
		s.pos, s.whole = c.end, c.end
	}
}

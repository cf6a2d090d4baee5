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
// Pieces are written behind what a log has only, without a gap: what else a log may have
// lost is told by [LostLogs]. The error is of kind Unavailable.
func LayIn(ctx context.Context, disk vfs.FS, index, journal string, blobs driver.Blobs) error {
	rider, ok := blobs.(Rider)
	if !ok {
		return nil
	}
	openings, err := findOpenings(disk, index, journal)
	if err == nil && len(openings) > 0 {
		err = layIn(ctx, disk, openings, rider)
	}
	return layInError(index, err)
}

func layInError(index string, err error) error {
	if err == nil {
		return nil
	}
	return imap.E("index logs", imap.Unavailable, fmt.Errorf("%s: what was kept of its log beside the messages cannot be put back: %w", index, err))
}

// findOpenings returns the folders that have logs, with the openings that these are of.
func findOpenings(disk vfs.FS, index, journal string) (map[string]opening, error) {
	dirs := []string{index}
	if journal != "" {
		epochs, err := listEpochs(disk, journal)
		if err != nil {
			return nil, err
		}
		for _, epoch := range epochs {
			dirs = append(dirs, disk.PathJoin(journal, epoch))
		}
	}
	found := make(map[string]opening)
	for _, dir := range dirs {
		o, err := readOpening(disk, dir)
		switch {
		case err == nil:
			found[dir] = o
		case !errors.Is(err, fs.ErrNotExist) && err != errNoOpening:
			return nil, err
		}
	}
	return found, nil
}

// layIn lays in what has ridden of the logs in some folders.
func layIn(ctx context.Context, disk vfs.FS, openings map[string]opening, rider Rider) error {
	logs := make(map[opening]map[uint64][]piece)
	for _, o := range openings {
		logs[o] = make(map[uint64][]piece)
	}
	err := rider.Riders(ctx, func(p []byte) error {
		if len(p) <= pieceHead {
			return nil
		}
		if own := logs[opening(p)]; own != nil {
			c := piece{log: binary.LittleEndian.Uint64(p[len(opening{}):]), off: int64(binary.LittleEndian.Uint64(p[len(opening{})+8:])), data: bytes.Clone(p[pieceHead:])}
			own[c.log] = append(own[c.log], c)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for dir, o := range openings {
		there, err := listLogs(disk, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, log := range there { // others are done with; if not, LostLogs says so
			if err := ctx.Err(); err != nil {
				return err
			}
			list := logs[o][log.number]
			slices.SortStableFunc(list, func(x, y piece) int { return cmp.Compare(x.off, y.off) })
			if err := layInto(disk, log, list); err != nil {
				return err
			}
		}
	}
	return nil
}

// layInto writes the pieces of a log, which are in their order, into a file of it. It
// writes also what is there already: after a sync that has failed nobody knows what of it
// is on the disk.
func layInto(disk vfs.FS, log journalLog, list []piece) error {
	if len(list) == 0 {
		return nil
	}
	data, err := readFile(disk, log.path, nil)
	if err != nil {
		return err
	}
	scan := &logScan{data: data, num: uint32(log.number)}
	fits := 0
	for _, p := range list {
		reach := scan.reach()
		if p.off <= 0 || p.off > reach {
			break
		}
		end := p.off + int64(len(p.data))
		known := min(end, reach) - p.off
		if !bytes.Equal(scan.data[p.off:p.off+known], p.data[:known]) {
			break // what is there is whole, and something else
		}
		scan.data = append(scan.data, make([]byte, max(0, int(end)-len(scan.data)))...)
		copy(scan.data[p.off:], p.data)
		scan.pos = max(scan.pos, int(end))
		fits++
	}
	if fits == 0 {
		return nil
	}
	f, err := disk.OpenReadWrite(log.path, categoryJournal)
	if err != nil {
		return err
	}
	for _, p := range list[:fits] {
		if _, err := f.WriteAt(p.data, p.off); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
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
		s.pos = c.end
	}
}

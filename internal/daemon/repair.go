package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/datadir"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// Names of a repair in a data folder. The new index is made in repairDir, and
// gets the file repairedMark when it is whole: it says under which name the old
// one is kept. From then on a repair that was interrupted is only completed.
const (
	repairDir = "index.new"
	// ReportName is the file in the folder with what was there before a repair that
	// says what became of things, a line each.
	ReportName   = "REPORT"
	repairedMark = "REPAIRED"
	brokenPrefix = "index.broken-"
)

// RepairEvent is what happens in the course of a repair.
type RepairEvent struct {
	Step        string // what begins; empty for others
	Done, Total int64  // bytes of messages, in this step; about that many
	Note        *RepairNote
	Defect      *admin.Defect // found before the repair
}

// RepairNote is something that is not as it was before.
type RepairNote struct {
	Kind mailstore.RepairKind `json:"kind"`
	admin.Defect
}

// RepairResult says what a repair has done. Where Needed is false nothing was
// wrong, and nothing was done.
type RepairResult struct {
	Needed  bool     `json:"needed"`
	Kept    string   `json:"kept,omitempty"` // the folder with what was there before
	Aside   []string `json:"aside,omitempty"`
	Journal string   `json:"journal,omitempty"` // what it was good for
	// Format says that the file FORMAT was gone or said nothing, and is written anew.
	Format bool `json:"format,omitempty"`
	// JournalRenewed says what was wrong with the journal beside an index in which nothing
	// was: a new state is saved in it.
	JournalRenewed []string `json:"journal_renewed,omitempty"`
	Accounts       int      `json:"accounts"`
	Messages       int      `json:"messages"`
	Bytes          int64    `json:"bytes"`
	Lost           int      `json:"lost"`
	Recovered      int      `json:"recovered"`
	Renewed        int      `json:"renewed"`
	Mended         int      `json:"mended"`
}

// RepairRequest says what to repair.
type RepairRequest struct {
	DataDir string
	Report  func(RepairEvent) // required
	Now     func() time.Time  // nil is time.Now

	fs vfs.FS // for tests; nil is the machine's
}

// Repair makes the index of a data folder again from its journal, from what can
// be read of the old one, and from the messages, if a check finds anything
// wrong. No server may have the folder. The old index is kept; where Repair
// fails or is interrupted, it is still in place, or the repaired one is, or the
// next call puts that there.
func Repair(ctx context.Context, req RepairRequest) (res *RepairResult, err error) {
	if req.Now == nil {
		req.Now = time.Now
	}
	if req.fs == nil {
		if err := mustExist(req.DataDir); err != nil {
			return nil, err
		}
	}
	dir, mended, err := openToMend(ctx, req.fs, req.DataDir)
	if imap.KindOf(err) == imap.InUse {
		return nil, told(imap.InUse, "%v. A repair needs the folder for itself: stop the server first", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if there, err := hasMail(dir); err != nil || !there {
		return nil, errors.Join(err, told(imap.NotFound, "%s has no mail, so there is nothing to repair", req.DataDir))
	}
	r := &repairing{req: req, dir: dir, fs: dir.FS(), res: &RepairResult{Needed: true, Format: mended}, log: slog.New(slog.DiscardHandler)}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	return r.res, nil
}

// repairing is one run of Repair.
type repairing struct {
	req RepairRequest
	dir *datadir.Dir
	fs  vfs.FS
	log *slog.Logger
	res *RepairResult
	// report is what ReportName gets.
	report bytes.Buffer
}

func (r *repairing) step(text string) { r.req.Report(RepairEvent{Step: text}) }

func (r *repairing) run(ctx context.Context) error {
	if kept, err := r.finished(); err != nil {
		return err
	} else if kept != "" {
		r.step("an earlier repair was interrupted when it was nearly done: it is completed")
		return r.put(ctx, kept)
	}
	clean, err := r.rebuild(ctx)
	if err != nil {
		return err
	}
	if clean {
		r.res.Needed = false
		return r.renewJournal(ctx)
	}
	kept := r.keptName()
	if err := r.markFinished(kept); err != nil {
		return err
	}
	return r.put(ctx, kept)
}

// finished returns where the old index is to be kept, if a repaired one is there
// that has not been put in place.
func (r *repairing) finished() (kept string, err error) {
	f, err := r.fs.Open(r.dir.Join(repairDir, repairedMark))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := fmt.Fscanln(f, &kept); err != nil {
		return "", fmt.Errorf("%s: %w", r.dir.Join(repairDir, repairedMark), err)
	}
	return kept, nil
}

// dropRepair forgets a repair that was interrupted before it put anything in
// place: whoever opens the old index may change it, and what was made of it is
// worth nothing then.
func dropRepair(dir *datadir.Dir) error {
	disk := dir.FS()
	if _, err := disk.Stat(dir.Join(repairDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := disk.Stat(dir.Join(indexDir)); err != nil {
		return nil // it is on its way, or lost: see hasMail
	}
	if err := disk.Remove(dir.Join(repairDir, repairedMark)); err == nil {
		if err := durable.SyncDir(disk, dir.Join(repairDir)); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return disk.RemoveAll(dir.Join(repairDir))
}

func (r *repairing) keptName() string {
	base := brokenPrefix + r.req.Now().UTC().Format("20060102-150405")
	name := base
	for n := 2; ; n++ {
		if _, err := r.fs.Stat(r.dir.Join(name)); err != nil {
			return name
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
}

// rebuild makes the new index, unless a check of the old one finds nothing.
func (r *repairing) rebuild(ctx context.Context) (clean bool, err error) {
	old, err := look(ctx, r.dir)
	if err != nil {
		return false, fmt.Errorf("cannot open the store in %s: %w", r.dir.Join(), err)
	}
	defer func() { err = errors.Join(err, old.closeEngines()) }()
	r.step("checking")
	k := &check{storage: old, repairing: true, report: func(e admin.Event) {
		r.req.Report(RepairEvent{Done: e.Done, Total: e.Total, Defect: e.Defect})
	}}
	if err := k.run(ctx); err != nil {
		return false, err
	}
	r.res.JournalRenewed = k.rotten
	if k.res.Defects == 0 {
		r.res.Accounts, r.res.Messages, r.res.Bytes = k.res.Accounts, k.res.Messages, k.res.Bytes
		return true, nil
	}
	r.res.JournalRenewed = nil // there will be another one
	if err := r.fs.RemoveAll(r.dir.Join(repairDir)); err != nil {
		return false, err
	}
	return false, r.build(ctx, old)
}

// renewJournal saves a state of an index in which nothing is wrong in its journal,
// where that is damaged.
func (r *repairing) renewJournal(ctx context.Context) error {
	if len(r.res.JournalRenewed) == 0 {
		return nil
	}
	r.step("the index is whole, its journal is damaged: saving a new state in it")
	s, err := openIn(ctx, r.dir, tuning{log: r.log, fs: r.fs})
	if err != nil {
		return err
	}
	return errors.Join(s.kv.RenewJournal(ctx), s.closeStore())
}

// build makes the new index and verifies it.
func (r *repairing) build(ctx context.Context, old *storage) (err error) {
	r.step("making the index again")
	kv, err := pebblekv.Open(r.dir.Join(repairDir), pebblekv.Options{FS: r.fs, Logger: r.log, Derived: mailstore.DerivedRange})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	witness := &mailstore.JournalWitness{Messages: true}
	journal, err := kv.Replay(ctx, old.over, r.dir.Join(journalDir), r.dir.Join(indexDir), witness)
	if err != nil {
		return err
	}
	r.res.Journal = journalText(journal)
	accounts, err := old.blobs.Accounts(ctx)
	if err != nil {
		return err
	}
	opts := mailstore.RepairOptions{
		JournalFound: journal.Found, JournalWhole: journal.Whole, Torn: journal.Torn, Journal: witness,
		Accounts: accounts, Deleted: old.blobs.Deleted, Store: mailstore.Options{Logger: r.log, Now: r.req.Now},
		Note: r.note, Progress: r.progress(old.blobs),
	}
	if old.kv != nil {
		opts.Old, opts.OldShort = old.kv, old.short
	}
	res, err := mailstore.Repair(ctx, kv, old.blobs, opts)
	if err != nil {
		return err
	}
	r.res.Accounts, r.res.Messages, r.res.Bytes = res.Accounts, res.Messages, res.Bytes
	r.res.Lost, r.res.Recovered, r.res.Renewed, r.res.Mended = res.Lost, res.Recovered, res.Renewed, res.Mended
	if err := r.verify(ctx, kv, old.blobs); err != nil {
		return err
	}
	return kv.Settle(ctx)
}

func (r *repairing) note(n mailstore.RepairNote) {
	d := admin.Defect{Account: n.Account, Mailbox: n.Mailbox, UID: uint32(n.UID), Text: n.Text}
	fmt.Fprintf(&r.report, "%s: %s\n", n.Kind, d)
	r.req.Report(RepairEvent{Note: &RepairNote{n.Kind, d}})
}

func (r *repairing) progress(blobs *bloblog.Store) func(int64) {
	stats := blobs.Stats()
	total := stats.Bytes - stats.DeadBytes
	return func(n int64) { r.req.Report(RepairEvent{Done: min(n, total), Total: total}) }
}

func journalText(j *pebblekv.JournalReport) string {
	switch {
	case !j.Found && len(j.Problems) == 0:
		return "there is none"
	case !j.Found:
		return "of no use: " + j.Problems[0]
	case !j.Whole:
		return "not to its end: " + j.Problems[len(j.Problems)-1]
	case j.Torn:
		return "whole, and it ends as a crash leaves it"
	}
	return "whole"
}

// verify refuses a new index in which a check would find anything.
func (r *repairing) verify(ctx context.Context, kv driver.KV, blobs *bloblog.Store) error {
	r.step("verifying what was made")
	store, err := mailstore.Open(ctx, kv, blobs, mailstore.Options{Logger: r.log, AsItIs: true})
	if err != nil {
		return err
	}
	res, err := store.Verify(ctx, mailstore.VerifyOptions{Progress: r.progress(blobs)})
	if err == nil && len(res.Defects) > 0 {
		err = fmt.Errorf("the repair has failed, and nothing is changed; please report this: %s, and %d more", res.Defects[0], len(res.Defects)-1)
	}
	// It stays marked as not closed in order: the next start takes away what
	// nobody names.
	return err
}

// markFinished says, durably, that the new index is whole.
func (r *repairing) markFinished(kept string) error {
	err := durable.WriteFile(r.fs, r.dir.Join(repairDir, ReportName), r.report.String(), "rookery-datadir")
	if err == nil {
		err = durable.WriteFile(r.fs, r.dir.Join(repairDir, repairedMark), kept+"\n", "rookery-datadir")
	}
	return errors.Join(err, r.sync(r.dir.Join()))
}

// put puts the new index in the place of the old one. Each step can be done
// again where it was interrupted.
func (r *repairing) put(ctx context.Context, kept string) error {
	r.res.Kept = r.dir.Join(kept)
	if err := r.fs.MkdirAll(r.dir.Join(kept), 0o700); err != nil {
		return err
	}
	if err := r.sync(r.dir.Join()); err != nil {
		return err
	}
	for _, name := range []string{indexDir, journalDir} {
		if err := r.move(name, kept); err != nil {
			return err
		}
	}
	if err := r.fs.Rename(r.dir.Join(repairDir), r.dir.Join(indexDir)); err != nil {
		return err
	}
	if err := r.sync(r.dir.Join()); err != nil {
		return err
	}
	return r.settle(ctx, kept)
}

// move moves a folder into that of what is kept, if it is there.
func (r *repairing) move(name, kept string) error {
	if _, err := r.fs.Stat(r.dir.Join(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := r.fs.Rename(r.dir.Join(name), r.dir.Join(kept, name)); err != nil {
		return err
	}
	return errors.Join(r.sync(r.dir.Join(kept)), r.sync(r.dir.Join()))
}

func (r *repairing) sync(path string) error { return durable.SyncDir(r.fs, path) }

// settle opens the store as a server does, which begins its new journal, and
// puts damaged files of messages aside. The repaired index is in place by now.
func (r *repairing) settle(ctx context.Context, kept string) error {
	r.step("opening what was made")
	blobs, err := bloblog.Open(r.dir.Join(messagesDir), bloblog.Options{FS: r.fs, Logger: r.log, Manual: true})
	if err != nil {
		return err
	}
	r.res.Aside, err = blobs.SetAside(ctx, r.dir.Join(kept, messagesDir))
	if err = errors.Join(err, blobs.Close()); err != nil {
		return err
	}
	s, err := openIn(ctx, r.dir, tuning{log: r.log, fs: r.fs})
	if err != nil {
		return err
	}
	err = s.closeStore()
	return errors.Join(err, r.keepReport(kept), r.unmark())
}

// keepReport moves the report of what became of things to what is kept.
func (r *repairing) keepReport(kept string) error {
	err := r.fs.Rename(r.dir.Join(indexDir, ReportName), r.dir.Join(kept, ReportName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // done before an interruption
	}
	return errors.Join(err, r.sync(r.dir.Join(kept)))
}

// unmark removes the mark in the index that is in place.
func (r *repairing) unmark() error {
	err := r.fs.Remove(r.dir.Join(indexDir, repairedMark))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

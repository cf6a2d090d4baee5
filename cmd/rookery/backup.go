package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/backup"
)

const backupLong = `Write a backup of the store into a new or empty folder, as it is at the moment
when the command begins, also while the server runs. The backup is a data folder
itself: ` + "`rookery check`" + ` can check it, ` + "`rookery restore`" + ` brings mail back from it,
and a server can serve it (which changes it, so serve a copy).

On the file system of the store, files that never change are not copied but
linked: that takes no space and little time, and protects from mistakes, but not
from a broken disk. For that, name a folder on another disk, and the backup before
as --previous, so that only what is new is copied. --copy copies in any case.

Messages are compared with their checksums on the way. What is damaged in the
backup before is taken from the store, and the other way round; --trust-previous
leaves that out, so that the backup before need not be read. Messages that are
damaged in the store are told of and copied as they are; the exit code is 3 then.

A backup has a list of its files with checksums. With --verify, the folder is
compared with that list, and checked as ` + "`rookery check`" + ` does.`

type backupFlags struct {
	data     string
	previous string
	trust    bool
	copy     bool
	verify   bool
}

func newBackup(std streams) *cobra.Command {
	var f backupFlags
	cmd := &cobra.Command{
		Use:   "backup DIR --data DATA [--previous OLD]",
		Short: "Write a backup of the store, also while the server runs",
		Long:  backupLong,
		Args:  oneArg("the folder for the backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.verify {
				return verifyBackup(cmd, std, args[0])
			}
			return f.run(cmd.Context(), std, args[0])
		},
	}
	addDataFlag(cmd, &f.data)
	cmd.Flags().StringVar(&f.previous, "previous", "", "an earlier `backup`, beside the new one: what has not changed is linked to it")
	cmd.Flags().BoolVar(&f.trust, "trust-previous", false, "take the backup before for whole, and do not read it")
	cmd.Flags().BoolVar(&f.copy, "copy", false, "copy everything, where links to the store would do")
	cmd.Flags().BoolVar(&f.verify, "verify", false, "write nothing, and see whether the backup in DIR is whole")
	return cmd
}

func (f *backupFlags) run(ctx context.Context, std streams, dir string) error {
	if err := checkData(f.data); err != nil {
		return err
	}
	req := admin.BackupRequest{Copy: f.copy, Trust: f.trust}
	var err error
	if req.Dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if f.previous != "" {
		if req.Previous, err = filepath.Abs(f.previous); err != nil {
			return err
		}
	}
	return withService(ctx, f.data, false, func(s admin.Service) error {
		p := newProgress(std.err, "bytes")
		begun := time.Now()
		res, err := s.Backup(ctx, req, func(e admin.Event) { p.Progress(e.Done, e.Total) })
		p.finish()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(std.out, "backup written: %s, %s, of which %s copied, in %s\n",
			count(res.Files, "file"), size(res.Bytes), size(res.Copied), time.Since(begun).Round(100*time.Millisecond))
		for _, note := range res.Notes {
			fmt.Fprintln(std.err, "rookery: "+note)
		}
		if res.Damaged > 0 && err == nil {
			err = exitError{fmt.Errorf("the backup is written, with %s as damaged as in the store", count(res.Damaged, "message")), exitPartly}
		}
		return err
	})
}

// verifyBackup compares a backup with its checksums, and checks the store in it.
func verifyBackup(cmd *cobra.Command, std streams, dir string) error {
	m, err := backup.Read(dir)
	if err != nil {
		return exitError{err, exitUnchecked}
	}
	p := newProgress(std.err, "bytes")
	done, total := int64(0), m.Bytes()
	problems, err := backup.Verify(cmd.Context(), dir, m, func(n int64) {
		done += n
		p.Progress(done, total)
	})
	p.finish()
	if err != nil {
		return exitError{err, exitUnchecked}
	}
	for _, problem := range problems {
		if _, err := fmt.Fprintf(std.out, "%s %s\n", problem.Path, problem.Text); err != nil {
			return err
		}
	}
	f := checkFlags{data: dir}
	err = f.run(cmd, std)
	if len(problems) > 0 && err == nil {
		_, err = fmt.Fprintln(std.out, "no message and no mailbox of the backup is hit: what is not as written is needed by none of them, such as what was deleted before. "+
			"The whole store is not restored from it, single accounts are (`rookery restore --user`)")
		if err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return exitError{fmt.Errorf("%s of the backup of %s not as written", count(len(problems), "file"), m.Created.Local().Format(time.DateTime)), exitDefects}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "the backup of %s is whole\n", m.Created.Local().Format(time.DateTime))
	return err
}

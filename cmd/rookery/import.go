package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/maildir"
	"github.com/rookery-mail/rookery/internal/mailimport"
	"github.com/rookery-mail/rookery/internal/mbox"
	"github.com/rookery-mail/rookery/internal/passwd"
)

const importLong = `Bring mail from files into a user's account, which is made where it is missing.

An import can be run again at any time, also after it was interrupted: messages
that came before are left out, and what the user has deleted since stays
deleted. The files are only read. Symbolic links are not followed, and what is no
regular file is left out and reported. A message that is broken is imported as it is,
and reported. Lines that end in LF alone get CRLF; nothing else changes.`

type importFlags struct{ data, user, mailbox string }

func newImport(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Bring mail from a Maildir or an mbox into an account",
		Long:  importLong,
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImportMaildir(std), newImportMbox(std))
	return cmd
}

func newImportMaildir(std streams) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "maildir PATH --data DIR --user U [--mailbox M]",
		Short: "Import a Maildir with its folders",
		Long: importLong + `

All folders come along: those of Maildir++ (.Folder.Sub) and folders in folders.
Flags, keywords (dovecot-keywords) and dates (the times of the files) are kept.
With --mailbox, the top of the tree goes into that mailbox and its folders below.

A message is known again by its folder, its base name and its size.`,
		Args: oneArg("the path of the Maildir"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			m, err := maildir.Open(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			return f.run(cmd.Context(), std, "messages", func(ctx context.Context, t mailimport.Target, r mailimport.Reporter) (*mailimport.Result, error) {
				return mailimport.Maildir(ctx, m, f.mailbox, t, r)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func newImportMbox(std streams) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "mbox PATH --data DIR --user U [--mailbox M]",
		Short: "Import an mbox file",
		Long: importLong + `

The messages go into INBOX, or where --mailbox says. The dialects mboxo, mboxrd,
mboxcl and mboxcl2 are understood. Flags and keywords come from the headers
Status, X-Status, X-Keywords and those of Mozilla, dates from the From lines.

A message is known again by the path of the file, what it says, and its position
among messages of the file that say the same.`,
		Args: oneArg("the path of the mbox"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			m, err := mbox.Open(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			return f.run(cmd.Context(), std, "bytes", func(ctx context.Context, t mailimport.Target, r mailimport.Reporter) (*mailimport.Result, error) {
				return mailimport.Mbox(ctx, m, f.mailbox, t, r)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (f *importFlags) add(cmd *cobra.Command) {
	addDataFlag(cmd, &f.data)
	cmd.Flags().StringVar(&f.user, "user", "", "the `name` of the account")
	cmd.Flags().StringVar(&f.mailbox, "mailbox", "", "the `mailbox` to import into")
}

type importer func(context.Context, mailimport.Target, mailimport.Reporter) (*mailimport.Result, error)

// check refuses flags that cannot be meant.
func (f *importFlags) check(cmd *cobra.Command) error {
	if f.user == "" {
		return usage("whose mail is it? Name the account with --user")
	}
	if err := passwd.CheckName(f.user); err != nil {
		return usage("--user: %w", err)
	}
	if err := checkMailbox(cmd, "mailbox", &f.mailbox); err != nil {
		return err
	}
	return checkData(f.data)
}

// checkMailbox normalises the mailbox that a flag names, if it was given.
func checkMailbox(cmd *cobra.Command, flag string, name *string) error {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	if *name == "" {
		return usage("--%s is empty: name a mailbox, or leave the flag away", flag)
	}
	normal, err := imap.NormalizeMailbox(*name, maildir.Separator)
	if err != nil {
		why := err.Error()
		if e, ok := errors.AsType[*imap.Error](err); ok && e.Text != "" {
			why = e.Text
		}
		return usage("--%s cannot be %.80q: the %s; a name is like Archive/2024", flag, *name, why)
	}
	*name = normal
	return nil
}

// run runs the import and says what came of it.
func (f *importFlags) run(ctx context.Context, std streams, unit string, fn importer) error {
	return withService(ctx, f.data, true, func(s admin.Service) error {
		p := newProgress(std.err, unit)
		res, err := fn(ctx, s.Import(f.user), p)
		p.finish()
		if res != nil && (err == nil || res.Imported > 0) {
			fmt.Fprintln(std.out, summary(res, f.user))
		}
		if err != nil {
			return fmt.Errorf("the import is not finished: %w\nRun it again when that is solved: what has been imported is not imported twice", err)
		}
		if res.Unread > 0 {
			return exitError{fmt.Errorf("%d could not be read and are not imported (see above); run the import again when that is solved", res.Unread), exitPartly}
		}
		return nil
	})
}

// summary says in one line what an import has done.
func summary(res *mailimport.Result, user string) string {
	text := "nothing new for " + user
	if res.Imported > 0 {
		text = fmt.Sprintf("%s imported into %s of %s (%s)", count(res.Imported, "message"), count(res.Mailboxes, "mailbox"), user, size(res.Bytes))
	}
	if res.Known > 0 {
		text += fmt.Sprintf(", %s imported before", count(res.Known, "message"))
	}
	if res.Odd > 0 {
		text += fmt.Sprintf(", %d reported", res.Odd)
	}
	return text
}

func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case what == "mailbox":
		return fmt.Sprintf("%d mailboxes", n)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, names := float64(n)/unit, "kMGT"
	for f >= unit && len(names) > 1 {
		f, names = f/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %cB", f, names[0])
}

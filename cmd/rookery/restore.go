package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/daemon"
	"github.com/rookery-mail/rookery/internal/maildir"
)

const restoreLong = `Bring mail back from a backup.

  rookery restore BACKUP --data DATA
      the whole store, into a new or empty folder
  rookery restore BACKUP --data DATA --user U [--as NAME]
      one account, which must not have any mail, or under another name
  rookery restore BACKUP --data DATA --user U --mailbox M [--into NAME]
      one mailbox as it was, into a new or empty mailbox of the account; without
      --into into Restored/M

Accounts and mailboxes are restored while the server runs, or without it.
Messages keep their order, flags, keywords and dates, and get new UIDs. Nothing
is ever overwritten, and the backup is not changed.

A store that is restored as a whole is an earlier one: UIDs that it gives out
next have been used for other messages. So mailboxes get a new UIDVALIDITY, and
mail programs fetch what they show anew. Where the store has not changed since
the backup (a move to another machine, say), --same-uidvalidity spares them that.`

type restoreFlags struct {
	data, user, as, mailbox, into string
	same                          bool
}

func newRestore(std streams) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore BACKUP --data DATA [--user U [--mailbox M]]",
		Short: "Bring back a store, an account or a mailbox from a backup",
		Long:  restoreLong,
		Args:  oneArg("the folder with the backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			if f.user == "" {
				return f.store(cmd.Context(), std, args[0])
			}
			return f.account(cmd.Context(), std, args[0])
		},
	}
	addDataFlag(cmd, &f.data)
	fl := cmd.Flags()
	fl.StringVar(&f.user, "user", "", "the `name` of the account to restore")
	fl.StringVar(&f.as, "as", "", "the `name` that the account gets, if another")
	fl.StringVar(&f.mailbox, "mailbox", "", "the one `mailbox` to restore")
	fl.StringVar(&f.into, "into", "", "the `mailbox` to restore it into (default Restored/M)")
	fl.BoolVar(&f.same, "same-uidvalidity", false, "keep UIDVALIDITY: nothing has happened since the backup")
	return cmd
}

func (f *restoreFlags) check(cmd *cobra.Command) error {
	for _, flag := range [...]string{"user", "as"} {
		if given := cmd.Flags().Lookup(flag); given.Changed && given.Value.String() == "" {
			return usage("--%s is empty: name an account, or leave the flag away", flag)
		}
	}
	switch {
	case f.user == "" && (f.mailbox != "" || f.as != ""):
		return usage("whose mail is it? Name the account with --user")
	case f.into != "" && f.mailbox == "":
		return usage("--into names a mailbox for the one of --mailbox, which is missing")
	case f.same && f.user != "":
		return usage("--same-uidvalidity is for the whole store; a mailbox that is restored is a new one")
	}
	if err := checkMailbox(cmd, "mailbox", &f.mailbox); err != nil {
		return err
	}
	if err := checkMailbox(cmd, "into", &f.into); err != nil {
		return err
	}
	if f.mailbox != "" && f.into == "" {
		f.into = "Restored" + string(maildir.Separator) + f.mailbox
	}
	if f.as == "" {
		f.as = f.user
	}
	return checkData(f.data)
}

// store restores everything.
func (f *restoreFlags) store(ctx context.Context, std streams, from string) error {
	p := newProgress(std.err, "bytes")
	m, err := daemon.RestoreStore(ctx, from, f.data, f.same, p.Progress)
	p.finish()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s has the store of %s (%s)\n", f.data, m.Created.Local().Format(time.DateTime), size(m.Bytes()))
	return err
}

// account restores an account, or a mailbox.
func (f *restoreFlags) account(ctx context.Context, std streams, from string) error {
	return withService(ctx, f.data, false, func(s admin.Service) error {
		p := newProgress(std.err, "messages")
		res, err := daemon.Restore(ctx, from, s, daemon.RestoreRequest{User: f.user, As: f.as, Mailbox: f.mailbox, Into: f.into}, p)
		p.finish()
		if err != nil {
			return err
		}
		what := "account " + f.as
		if f.mailbox != "" {
			what = f.into + " of " + f.as
		}
		if _, err := fmt.Fprintf(std.out, "%s restored: %s in %s\n", what, count(res.Messages, "message"), count(res.Mailboxes, "mailbox")); err != nil {
			return err
		}
		if res.Unread > 0 {
			return exitError{fmt.Errorf("%s left out: the backup is damaged there", count(res.Unread, "message")), exitPartly}
		}
		return nil
	})
}

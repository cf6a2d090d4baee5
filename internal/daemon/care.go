package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/backup"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// Check implements admin.Service.
func (c *control) Check(ctx context.Context, report func(admin.Event)) (admin.CheckResult, error) {
	k := &check{storage: c.storage, report: report}
	if err := k.run(ctx); err != nil {
		return admin.CheckResult{}, err
	}
	return k.res, nil
}

// check is one check of a store.
type check struct {
	*storage
	report func(admin.Event)
	res    admin.CheckResult

	// repairing says that damage to the journal alone is no reason to make the index
	// again; rotten is what it is then.
	repairing bool
	rotten    []string
}

func (k *check) found(d admin.Defect) {
	k.res.Defects++
	d.Text, _, _ = strings.Cut(d.Text, "\n") // what comes then says the same again
	k.report(admin.Event{Defect: &d})
}

func (k *check) run(ctx context.Context) error {
	for _, text := range k.lost {
		k.short = true
		k.found(admin.Defect{File: k.dir.Join(indexDir), Text: fmt.Sprintf("changes that were acknowledged are missing in the index: %s (%s)", text, indexRemedy(k.dir))})
	}
	if k.broken != nil {
		return k.withoutIndex(ctx)
	}
	if k.watch != nil {
		for _, d := range defects(k.watch.look(ctx, true)) {
			k.found(d)
		}
	}
	names, err := k.accountNames(ctx)
	if err != nil {
		return err
	}
	err = k.kv.Verify(ctx, func(d pebblekv.Damage) {
		k.found(admin.Defect{File: d.File, Text: fmt.Sprintf("a table of the index is damaged (it has keys of %s): %v", span(names, d.First, d.Last), d.Err)})
	})
	if err != nil {
		return err
	}
	err = k.blobs.Verify(ctx, false, func(d bloblog.Damage) {
		if d.Ref != 0 {
			// Where a message needs it, the message's mailboxes are told below.
			k.res.Needless++
			return
		}
		k.found(admin.Defect{File: k.dir.Join("messages", d.File), Text: d.Err.Error()})
	})
	if err != nil {
		return err
	}
	if err := k.journal(ctx); err != nil {
		return err
	}
	return k.messages(ctx)
}

// journal verifies the journal of the index, and compares an index that no server has
// with it.
func (k *check) journal(ctx context.Context) error {
	if !k.looking {
		problems, err := k.kv.VerifyJournal(ctx)
		k.foundJournal(problems, "start the server again, which saves a new state of the index in it")
		return err
	}
	var w mailstore.JournalWitness
	report, err := pebblekv.ReadJournal(ctx, k.over, k.dir.Join(journalDir), k.dir.Join(indexDir), mailstore.DerivedRange, &w)
	if err != nil {
		return err
	}
	if k.rotten = report.Problems; !k.repairing {
		k.foundJournal(k.rotten, fmt.Sprintf("run `rookery check --repair --data %s`, or start a server, which save a new state of the index in it", k.dir.Join()))
	}
	defects, err := w.Compare(ctx, k.store)
	if imap.KindOf(err) == imap.Corruption {
		return nil // the list of accounts: it is told of by others
	}
	if err != nil {
		return err
	}
	for _, d := range defects {
		k.short = true
		k.found(admin.Defect{Account: d.Account, Text: d.Text})
	}
	if err := k.unnamed(ctx); err != nil {
		return err
	}
	if behind, err := k.kv.IsBehind(report.Next); err != nil || !behind || k.short {
		return err
	}
	k.short = true
	k.found(admin.Defect{File: k.dir.Join(indexDir), Text: fmt.Sprintf("the index has lost its last changes, of accounts or users, which its journal has (%s)", indexRemedy(k.dir))})
	return nil
}

// unnamed counts the messages that nobody names and nobody has expunged. Mostly there
// are none, and then the journal need not be asked.
func (k *check) unnamed(ctx context.Context) error {
	accounts, err := k.blobs.Accounts(ctx)
	if err != nil {
		return err
	}
	w := &mailstore.JournalWitness{Messages: true}
	n, err := k.store.CountUnnamed(ctx, w, accounts)
	if err == nil && n > 0 {
		_, err = pebblekv.ReadJournal(ctx, k.over, k.dir.Join(journalDir), k.dir.Join(indexDir), mailstore.DerivedRange, w)
		if err == nil {
			n, err = k.store.CountUnnamed(ctx, w, accounts)
		}
	}
	if imap.KindOf(err) == imap.Corruption {
		return nil // others tell
	}
	k.res.Unnamed = n
	return err
}

// foundJournal tells what is wrong with the journal.
func (k *check) foundJournal(problems []string, remedy string) {
	for _, text := range problems {
		k.found(admin.Defect{File: k.dir.Join(journalDir), Text: fmt.Sprintf("the journal of the index is damaged, which hits no mail as long as the index is whole: %s (%s)", text, remedy)})
	}
}

// messages checks the mailboxes, and reads every message.
func (k *check) messages(ctx context.Context) error {
	stats := k.blobs.Stats()
	total := stats.Bytes - stats.DeadBytes
	damaged := 0
	res, err := k.store.Verify(ctx, mailstore.VerifyOptions{
		Progress: func(n int64) { k.report(admin.Event{Done: min(n, total), Total: total}) },
		Found: func(d mailstore.Defect) {
			damaged++
			defect := admin.Defect{Account: d.Account, Mailbox: d.Mailbox, UID: uint32(d.UID), Text: d.Text}
			if d.Ref != 0 {
				defect.Segment = k.blobs.FileOf(d.Ref)
			}
			k.found(defect)
		},
	})
	if err != nil {
		return err
	}
	if damaged > 0 {
		k.res.Needless = 0 // they are told of, or cannot be told apart
	}
	k.res.Accounts, k.res.Mailboxes, k.res.Messages, k.res.Bytes = res.Accounts, res.Mailboxes, res.Messages, res.Bytes
	return nil
}

// withoutIndex says what can be said when the index cannot be opened.
func (k *check) withoutIndex(ctx context.Context) error {
	k.found(admin.Defect{File: k.dir.Join("index"), Text: fmt.Sprintf("the index cannot be opened, so nobody knows which mailbox has which message: %s (%v)", indexRemedy(k.dir), k.broken)})
	return k.blobs.Verify(ctx, true, func(d bloblog.Damage) {
		text := d.Err.Error()
		if d.Ref != 0 {
			text = fmt.Sprintf("a message of account number %d (at %#x): %s", d.Account, d.Ref, text)
		}
		k.found(admin.Defect{File: k.dir.Join("messages", d.File), Text: text})
	})
}

// accountNames returns the names of accounts by their numbers.
func (k *check) accountNames(ctx context.Context) (map[uint64]string, error) {
	list, err := k.store.Accounts(ctx)
	if imap.KindOf(err) == imap.Corruption {
		return nil, nil // Verify says so
	}
	if err != nil {
		return nil, err
	}
	names := make(map[uint64]string, len(list))
	for _, a := range list {
		names[a.Number] = a.Name
	}
	return names, nil
}

// span names the accounts with numbers from first to last.
func span(names map[uint64]string, first, last uint64) string {
	const most = 5
	var list []string
	for n := first; n <= last && len(list) <= most; n++ {
		switch name, ok := names[n]; {
		case n == 0:
			list = append(list, "the list of accounts and users")
		case ok:
			list = append(list, "account "+name)
		}
		if n-first > 1_000_000 { // numbers are not used up so fast
			break
		}
	}
	if len(list) > most {
		return strings.Join(list[:most], ", ") + " and others"
	}
	if len(list) == 0 {
		return "no account that there is now"
	}
	return strings.Join(list, ", ")
}

// Backup implements admin.Service.
func (c *control) Backup(ctx context.Context, req admin.BackupRequest, report func(admin.Event)) (admin.BackupResult, error) {
	if !filepath.IsAbs(req.Dir) || req.Previous != "" && !filepath.IsAbs(req.Previous) {
		return admin.BackupResult{}, told(imap.Cannot, "the path of a backup must be absolute, and %q is not", req.Dir)
	}
	s := c.storage
	res, err := backup.Write(ctx, backup.Source{Dir: s.dir.Join(), Format: s.dir.Format(), Version: c.version, KV: s.kv, Blobs: s.blobs}, req.Dir, backup.Options{
		Previous: req.Previous, Trust: req.Trust, Copy: req.Copy,
		Progress: func(done, total int64) { report(admin.Event{Done: done, Total: total}) },
	})
	if err != nil {
		return admin.BackupResult{}, err
	}
	return admin.BackupResult{Files: res.Files, Bytes: res.Bytes, Copied: res.Copied, Damaged: res.Damaged, Notes: res.Notes}, nil
}

// PrepareRestore implements admin.Service.
func (c *control) PrepareRestore(ctx context.Context, plan admin.RestorePlan) error {
	if err := checkName(plan.User); err != nil {
		return err
	}
	if plan.Whole {
		if err := c.mustHaveNoMail(ctx, plan.User); err != nil {
			return err
		}
	}
	a, err := c.store.Account(ctx, plan.User)
	if err != nil {
		return err
	}
	for _, m := range plan.Mailboxes {
		if st, err := a.Status(m.Name); err == nil && st.Messages > 0 {
			return told(imap.Exists, "the mailbox %s of %s has %d messages, and nothing is mixed with them: name another one with --into", m.Name, plan.User, st.Messages)
		}
	}
	for _, m := range plan.Mailboxes {
		if err := prepareMailbox(ctx, a, m); err != nil {
			return err
		}
	}
	for i := len(plan.Mailboxes) - 1; i >= 0; i-- {
		if m := plan.Mailboxes[i]; m.NoSelect { // what is below it is there, so its name stays
			if err := a.Delete(ctx, m.Name); err != nil {
				return err
			}
		}
	}
	for _, name := range plan.Subscriptions {
		if err := a.Subscribe(ctx, name, true); err != nil {
			return err
		}
	}
	return nil
}

func prepareMailbox(ctx context.Context, a *mailstore.Account, m admin.RestoreMailbox) error {
	uses := make([]imap.MailboxAttr, len(m.Uses))
	for i, use := range m.Uses {
		uses[i] = imap.MailboxAttr(use)
	}
	if _, err := a.Create(ctx, m.Name, uses); err != nil && imap.KindOf(err) != imap.Exists {
		return err
	}
	if !m.Subscribed {
		return nil
	}
	return a.Subscribe(ctx, m.Name, true)
}

// mustHaveNoMail refuses an account with mail, or with mailboxes of its own.
func (c *control) mustHaveNoMail(ctx context.Context, user string) error {
	a, err := c.store.Lookup(ctx, user)
	if imap.KindOf(err) == imap.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	messages, others := 0, 0
	for _, m := range a.Mailboxes() {
		if m.Name != imap.Inbox && !m.Missing {
			others++
		}
		if st, err := a.Status(m.Name); err == nil {
			messages += int(st.Messages)
		}
	}
	if messages > 0 || others > 0 {
		return told(imap.Exists, "the account %s has %d messages, and %d mailboxes beside INBOX: nothing is overwritten; restore to another name with --as, or single mailboxes with --mailbox", user, messages, others)
	}
	return nil
}

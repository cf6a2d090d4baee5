package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/daemon"
)

const checkLong = `Look for whatever is wrong with a store: read everything and compare it with
its checksums, follow every reference, and check the rules of UIDs, of
mod-sequences and of what is counted. Nothing is changed.

It works while the server runs, beside everything else, and without a server; then the
folder is not written to. A backup can be checked in the same way. A server is asked
first whether its files are where they belong: what somebody has removed from the folder is
told, also where the server has written it again.

Each defect is a line on standard output that says which account, mailbox and UID
it hits, or which file. Where there are many, it is said first how many there are in
each mailbox and in each file of messages, and the first of them are printed; all of
them with --verbose.

With --repair, on a store that no server has, whatever is wrong is made whole
again: the index from its journal, from what can be read of it, and from the
messages. Each line says what is not as it was before: lost (it is not there any
more), recovered (a message whose place is not known is in the mailbox
Recovered), renewed (a mailbox has a new UIDVALIDITY), mended (records
contradicted each other). The old index is kept in the folder index.broken-DATE.
A repair that is interrupted is run again.

Exit codes: 0 nothing is wrong, 1 something is, 2 the check could not be made.
With --repair: 0 nothing is wrong now and nothing is lost, 1 nothing is wrong
now, but something is lost, recovered or renewed, 2 the repair could not be made,
and the store is as it was or the repair is to be run again.`

// Exit codes of `rookery check`.
const (
	exitDefects   = 1
	exitUnchecked = 2
)

type checkFlags struct {
	data    string
	json    bool
	repair  bool
	verbose bool
}

func newCheck(std streams) *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check --data DIR",
		Short: "Look for defects in the store, and repair them with --repair",
		Long:  checkLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.repair {
				return f.runRepair(cmd, std)
			}
			return f.run(cmd, std)
		},
	}
	addDataFlag(cmd, &f.data)
	cmd.Flags().BoolVar(&f.repair, "repair", false, "make the store whole again; no server may have it")
	cmd.Flags().BoolVar(&f.verbose, "verbose", false, "print each defect, however many there are")
	cmd.Flags().BoolVar(&f.json, "json", false, "write the result as one JSON object")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command, std streams) error {
	if err := checkData(f.data); err != nil {
		return err
	}
	out := &checkOutput{std: std, json: f.json, p: newProgress(std.err, "bytes"), defects: []admin.Defect{}}
	out.lines = findings{out: std.out, verbose: f.verbose}
	res, err := check(cmd, f.data, out)
	out.p.finish()
	if err != nil {
		_ = out.lines.flush(allDefects) // what was found until then
		return exitError{fmt.Errorf("the store could not be checked: %w", err), exitUnchecked}
	}
	if err := out.finish(res); err != nil {
		return exitError{err, exitUnchecked}
	}
	if res.Defects > 0 {
		return exitError{fmt.Errorf("%s found", count(res.Defects, "defect")), exitDefects}
	}
	return nil
}

func check(cmd *cobra.Command, data string, out *checkOutput) (res admin.CheckResult, err error) {
	s, err := daemon.ConnectToCheck(cmd.Context(), data, version())
	if imap.KindOf(err) == imap.Corruption {
		// What keeps the folder from being opened is a defect itself.
		out.event(admin.Event{Defect: &admin.Defect{Text: err.Error()}})
		return admin.CheckResult{Defects: 1}, nil
	}
	if err != nil {
		return res, err
	}
	res, err = s.Check(cmd.Context(), out.event)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return res, err
}

// checkOutput writes what a check finds.
type checkOutput struct {
	std     streams
	json    bool
	p       *progress
	defects []admin.Defect
	lines   findings
}

// allDefects says where all lines of a check are to be had.
const allDefects = "--verbose prints all, and so does --json"

func (o *checkOutput) event(e admin.Event) {
	switch {
	case e.Defect == nil:
		o.p.Progress(e.Done, e.Total)
	case o.json:
		o.defects = append(o.defects, *e.Defect)
	default:
		o.p.finish()
		o.lines.add("", *e.Defect)
	}
}

// finish writes the last line, or the JSON object.
func (o *checkOutput) finish(res admin.CheckResult) error {
	if err := o.lines.flush(allDefects); err != nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(o.std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Clean bool `json:"clean"`
			admin.CheckResult
			Found []admin.Defect `json:"found"`
		}{res.Defects == 0, res, o.defects})
	}
	looked := fmt.Sprintf("%s, %s, %s (%s)", count(res.Accounts, "account"), count(res.Mailboxes, "mailbox"), count(res.Messages, "message"), size(res.Bytes))
	if res.Needless > 0 {
		looked += fmt.Sprintf("; %s that no message needs, as a crash can leave them", count(res.Needless, "damaged record"))
	}
	if res.Unnamed > 0 {
		looked += fmt.Sprintf("; %s in the segments that no mailbox names and nobody has expunged: deliveries that a crash broke off, which the start after a crash takes away (where there are more than that can be, mail is missing: copy the folder before you start a server)", count(res.Unnamed, "message"))
	}
	what := "clean"
	if res.Defects > 0 {
		what = count(res.Defects, "defect")
	}
	_, err := fmt.Fprintf(o.std.out, "%s: %s\n", what, looked)
	return err
}

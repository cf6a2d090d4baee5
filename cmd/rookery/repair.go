package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/daemon"
	"github.com/rookery-mail/rookery/mailstore"
)

// runRepair is `rookery check --repair`.
func (f *checkFlags) runRepair(cmd *cobra.Command, std streams) error {
	if err := checkData(f.data); err != nil {
		return err
	}
	out := &repairOutput{lines: findings{out: std.out, verbose: f.verbose}, std: std, json: f.json, p: newProgress(std.err, "bytes"), found: []admin.Defect{}, notes: []daemon.RepairNote{}}
	res, err := daemon.Repair(cmd.Context(), daemon.RepairRequest{DataDir: f.data, Report: out.event})
	out.p.finish()
	if err != nil {
		_ = out.flush() // what was found until then
		return exitError{fmt.Errorf("the store could not be repaired: %w", err), exitUnchecked}
	}
	if err := out.finish(res); err != nil {
		return exitError{err, exitUnchecked}
	}
	if n := res.Lost + res.Recovered + res.Renewed; n > 0 {
		return exitError{fmt.Errorf("the store is whole again, but not as it was: %s", outcome(res)), exitDefects}
	}
	return nil
}

// repairOutput writes what a repair tells.
type repairOutput struct {
	std   streams
	json  bool
	p     *progress
	found []admin.Defect
	notes []daemon.RepairNote
	lines findings
	err   error
}

// flush prints what was found, and what became of it. All of it is in the folder that
// keeps what was there before.
func (o *repairOutput) flush() error {
	if o.json {
		return nil
	}
	return o.lines.flush("--verbose prints all; what became of things is in " + daemon.ReportName + " beside what is kept")
}

func (o *repairOutput) event(e daemon.RepairEvent) {
	switch {
	case e.Defect != nil:
		o.found = append(o.found, *e.Defect)
		o.lines.add("found: ", *e.Defect)
	case e.Note != nil:
		o.notes = append(o.notes, *e.Note)
		o.lines.add(string(e.Note.Kind)+": ", e.Note.Defect)
	case e.Step != "":
		o.p.finish()
		if err := o.flush(); err != nil { // what the step before has found
			o.err = err
		}
		if _, err := fmt.Fprintln(o.std.err, e.Step); err != nil {
			o.err = err
		}
	default:
		o.p.Progress(e.Done, e.Total)
	}
}

func (o *repairOutput) line(format string, args ...any) {
	if o.json {
		return
	}
	o.p.finish()
	if _, err := fmt.Fprintf(o.std.out, format+"\n", args...); err != nil {
		o.err = err
	}
}

// outcome says in a few words what became of things.
func outcome(res *daemon.RepairResult) string {
	var parts []string
	for _, p := range []struct {
		n    int
		kind mailstore.RepairKind
	}{{res.Lost, mailstore.RepairLost}, {res.Recovered, mailstore.RepairRecovered}, {res.Renewed, mailstore.RepairRenewed}, {res.Mended, mailstore.RepairMended}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.kind))
		}
	}
	if len(parts) == 0 {
		return "nothing is lost"
	}
	return strings.Join(parts, ", ")
}

// finish writes the last lines, or the JSON object.
func (o *repairOutput) finish(res *daemon.RepairResult) error {
	if err := o.flush(); err != nil || o.err != nil {
		return errors.Join(err, o.err)
	}
	if o.json {
		enc := json.NewEncoder(o.std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			*daemon.RepairResult
			Found []admin.Defect      `json:"found"`
			Notes []daemon.RepairNote `json:"notes"`
		}{res, o.found, o.notes})
	}
	looked := fmt.Sprintf("%s, %s (%s)", count(res.Accounts, "account"), count(res.Messages, "message"), size(res.Bytes))
	if res.Format {
		o.line("format: the file FORMAT was lost or damaged, and is written anew")
	}
	for _, text := range res.JournalRenewed {
		o.line("journal of the index: it was damaged, and has a new state of the index now: %s", text)
	}
	if !res.Needed {
		o.line("clean, nothing to repair: %s", looked)
		return o.err
	}
	for _, name := range res.Aside {
		o.line("aside: %s/messages/%s, which is damaged; what could be read of it is in the store", res.Kept, name)
	}
	o.line("journal of the index: %s", cmp.Or(res.Journal, "it was read before the interruption"))
	o.line("kept: what was there before is in %s, with a list of what is not as it was (%s); remove it when all is well", res.Kept, daemon.ReportName)
	o.line("repaired: %s; %s", looked, outcome(res))
	return o.err
}

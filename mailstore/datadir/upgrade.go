package datadir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
)

// A Step brings a folder from one format to the next.
type Step struct {
	From int    // the format that it begins with; it ends with From+1
	Does string // for the log: "the texts for searches go into files of their own"
	// Run does it. When it returns nil all that it has written is durable. It may
	// find that it was begun before, and interrupted anywhere: then it is run again
	// and goes on, or begins anew. What it needs for that it must not remove first.
	Run func(ctx context.Context, d *Dir) error
}

// Formats are what a release makes of folders of older formats.
type Formats struct {
	Version int // the format that it works with; 0 means the constant Version
	// Steps lead to Version, one format each, in their order. Without them no
	// older folder is opened.
	Steps []Step
	// Logger is told of each step; nil means slog.Default().
	Logger *slog.Logger
}

// OpenToUpgrade is Open, but a folder of an older format is brought up to date
// first, step by step. FORMAT says before a step begins which one is under way, with
// the number of the newer format: so a release that knows only the older one refuses
// what is half done, and the step is run again at the next OpenToUpgrade.
func OpenToUpgrade(ctx context.Context, fs vfs.FS, path string, f Formats) (*Dir, error) {
	if f.Logger == nil {
		f.Logger = slog.Default()
	}
	return open(fs, path, opening{ctx: ctx, formats: f, upgrade: true})
}

// oldest is the oldest format that the steps know.
func (f *Formats) oldest() int { return f.Version - len(f.Steps) }

// step returns the step from a format to the next one.
func (f *Formats) step(from int) (*Step, error) {
	i := from - f.oldest()
	if i < 0 || i >= len(f.Steps) || f.Steps[i].From != from {
		return nil, imap.E("data folder upgrade", imap.ServerBug, fmt.Errorf("the steps to format %d have none from format %d", f.Version, from))
	}
	return &f.Steps[i], nil
}

// upgrade brings the folder up to date. from is the format that a step was begun
// with and not ended, 0 where there is none.
func (d *Dir) upgrade(ctx context.Context, f Formats, from int) error {
	if from > 0 {
		f.Logger.Warn("a change of the store's format was interrupted, and goes on", "dir", d.path, "from", from, "to", d.version)
		d.version = from
	}
	for d.version < f.Version {
		step, err := f.step(d.version)
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.take(ctx, f, step); err != nil {
			return err
		}
	}
	return nil
}

// take takes one step.
func (d *Dir) take(ctx context.Context, f Formats, step *Step) error {
	from, to := step.From, step.From+1
	f.Logger.Info("the store's format is changed", "dir", d.path, "from", from, "to", to, "does", step.Does)
	if err := d.setFormat(to, from); err != nil {
		return err
	}
	if err := step.Run(ctx, d); err != nil {
		kind := imap.KindOf(err)
		if kind == imap.Other {
			kind = imap.Unavailable
		}
		return imap.E("data folder upgrade", kind, fmt.Errorf("%s cannot be brought from format %d to %d (%s): no mail is lost; solve what the error says and start again, the change goes on then: %w", d.path, from, to, step.Does, err))
	}
	if err := d.setFormat(to, 0); err != nil {
		return err
	}
	f.Logger.Info("the store's format is changed, and durable", "dir", d.path, "format", to)
	return nil
}

// errOlder is for those who open a folder that must be brought up to date first.
func (d *Dir) errOlder(f Formats, from int) error {
	what := fmt.Sprintf("has format %d, and this release works with format %d", d.version, f.Version)
	if from > 0 {
		what = fmt.Sprintf("is on its way from format %d to %d", from, d.version)
	}
	return imap.E("data folder open", imap.ContactAdmin, errors.New(d.path+" "+what+": start the server (`rookery serve`), which brings it up to date; until then only the release that wrote it can read it. Nothing was changed"))
}

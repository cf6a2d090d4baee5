package imapmodel

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Options are what a program may choose for a model. The zero value is fit for
// a model that keeps everything itself, or for trying one out.
type Options struct {
	// Separator parts the levels of mailbox names; 0 means '/'. It is a visible
	// character of ASCII other than '*', '%', '"' and '\\'. Flat says that names
	// have no levels.
	Separator rune
	Flat      bool

	// PollInterval is the least time between two looks at a mailbox, or at the
	// list of mailboxes, for models without FeatureWatch. 0 looks in each
	// command. What clients change themselves is seen at once, and Backend.Changed
	// and Conn.Poll make the next command look. A model that fails is asked
	// again after a second, then less and less often, at least once a minute.
	PollInterval time.Duration
	// IdleInterval is how often a mailbox is looked at while its clients are
	// silent, for models without FeatureWatch. 0 means PollInterval, and at
	// least 5 seconds.
	IdleInterval time.Duration

	// State keeps what is derived from the model over restarts. nil keeps it in
	// RAM: then a restart gives new UIDVALIDITYs, so that clients load all
	// messages again, and OBJECTID and SAVEDATE are not announced. They are made
	// from the time in seconds: a program that starts twice in one second
	// without a State may give the same ones for other messages. Nor is
	// anything forgotten before the program ends, of whatever user.
	State State

	// KeepFlags lets clients set flags although the model does not declare
	// FeatureFlags; the framework keeps them in State.
	KeepFlags bool
	// KeepSubscriptions does the same for subscriptions. Where nobody keeps
	// them all mailboxes are subscribed to.
	KeepSubscriptions bool

	// MaxMessage bounds the size of a message that is read from the model, in
	// bytes; 0 means 64 MB. A larger one cannot be fetched, and if its size is
	// not known (Message.Size) it is left out.
	MaxMessage int64
	// CacheBytes bounds what is kept in RAM of messages that were read; 0 means
	// 64 MB.
	CacheBytes int64
	// GhostBytes bounds what is kept of messages that were expunged by one
	// client and that others may still read; 0 means 32 MB.
	GhostBytes int64
	// History bounds how many expunges of a mailbox are remembered (RFC 7162),
	// counted in ranges of UIDs; 0 means 50,000.
	History int

	// Log gets what an operator must know. nil: slog.Default().
	Log *slog.Logger
	// Clock is what is taken for the time; nil: time.Now.
	Clock func() time.Time
}

// check refuses options that cannot be.
func (o *Options) check() error {
	if sep := o.Separator; sep != 0 && (sep <= ' ' || sep > '~' || strings.ContainsRune(`*%"\`, sep)) {
		return fmt.Errorf("imapmodel: Options.Separator is %q; it must be a visible character of ASCII other than * %% \" \\", sep)
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Separator == 0 {
		o.Separator = '/'
	}
	if o.Flat {
		o.Separator = 0
	}
	if o.IdleInterval <= 0 {
		o.IdleInterval = max(o.PollInterval, 5*time.Second)
	}
	if o.MaxMessage <= 0 {
		o.MaxMessage = 64 << 20
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	if o.GhostBytes <= 0 {
		o.GhostBytes = 32 << 20
	}
	if o.History <= 0 {
		o.History = 50_000
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o
}

// parts are the optional interfaces of a model; nil where not declared.
type parts struct {
	appender   Appender
	flagger    Flagger
	remover    Remover
	editor     MailboxEditor
	subscriber Subscriber
	transactor Transactor
	copier     Copier
	mover      Mover
	watcher    Watcher
	selectHook SelectHook
	userHook   UserHook
	searcher   Searcher
}

// partsOf finds the interfaces that a model declares.
func partsOf(m Model) (parts, error) {
	var p parts
	var missing []error
	declared := m.Features()
	check := func(f Features, name string, methods string, has bool) {
		if declared.Has(f) && !has {
			missing = append(missing, fmt.Errorf("imapmodel: %T declares %s, but has no method %s", m, name, methods))
		}
		declared &^= f
	}
	check(FeatureAppend, "FeatureAppend", "Append", part(m, FeatureAppend, &p.appender))
	check(FeatureFlags, "FeatureFlags", "SetFlags", part(m, FeatureFlags, &p.flagger))
	check(FeatureRemove, "FeatureRemove", "Remove", part(m, FeatureRemove, &p.remover))
	check(FeatureMailboxes, "FeatureMailboxes", "CreateMailbox, DeleteMailbox or RenameMailbox", part(m, FeatureMailboxes, &p.editor))
	check(FeatureSubscribe, "FeatureSubscribe", "Subscribe", part(m, FeatureSubscribe, &p.subscriber))
	check(FeatureAtomic, "FeatureAtomic", "Atomically", part(m, FeatureAtomic, &p.transactor))
	check(FeatureCopy, "FeatureCopy", "Copy", part(m, FeatureCopy, &p.copier))
	check(FeatureMove, "FeatureMove", "Move", part(m, FeatureMove, &p.mover))
	check(FeatureWatch, "FeatureWatch", "Watch", part(m, FeatureWatch, &p.watcher))
	check(FeatureSelect, "FeatureSelect", "Selected or Unselected", part(m, FeatureSelect, &p.selectHook))
	check(FeatureUser, "FeatureUser", "LoggedIn or LoggedOut", part(m, FeatureUser, &p.userHook))
	check(FeatureSearch, "FeatureSearch", "Search", part(m, FeatureSearch, &p.searcher))
	declared &^= FeatureSpecialUse | FeatureBinary | FeatureUTF8
	if declared != 0 {
		missing = append(missing, fmt.Errorf("imapmodel: %T declares unknown features %#x", m, uint32(declared)))
	}
	return p, errors.Join(missing...)
}

// part stores the model in *to where it declares f and is a T. The answer is
// whether the model is a T.
func part[T any](m Model, f Features, to *T) bool {
	t, ok := m.(T)
	if ok && m.Features().Has(f) {
		*to = t
	}
	return ok
}

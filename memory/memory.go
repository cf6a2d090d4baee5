// Package memory is the default model: mailboxes and messages in RAM. It is
// good for tests, for examples, and to be embedded: a type that has a *Model
// and overrides some of its methods gets everything else for nothing.
//
//	type noSundays struct{ *memory.Model }
//
//	func (m noSundays) Append(ctx context.Context, user, mailbox string, msg *imapmodel.NewMessage) (string, error) {
//		if msg.Date.Weekday() == time.Sunday {
//			return "", imap.No("", "No mail on Sundays")
//		}
//		return m.Model.Append(ctx, user, mailbox, msg)
//	}
//
// Go's embedding does not call back: a method of Model that called another one
// would call its own, never the one that overrides it. Therefore no exported
// method here calls another one; imapmodel calls each of them for what it is
// named after. For the same reason Features leaves out FeatureCopy and
// FeatureMove: without them a COPY is an Append and a MOVE is an Append and a
// Remove, so that whoever overrides these has overridden all ways in and out.
//
// Nothing outlives the process. A server for real mail is made with mailstore
// and imapstore.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
)

// Model is a model in RAM. It is made by New and safe for concurrent use. Any
// user exists from the moment that somebody asks for one.
type Model struct {
	defaults []imapmodel.Mailbox

	mu      sync.Mutex
	users   map[string]*user
	lastKey uint64
	feeds   map[*feed]struct{}
}

type user struct {
	mailboxes  map[string]*mailbox
	subscribed map[string]bool
}

type mailbox struct {
	info     imapmodel.Mailbox
	messages []*stored // in order of arrival
	byKey    map[string]*stored
}

// stored is a message. It is replaced, not changed.
type stored struct {
	key     string
	version uint64
	text    []byte
	hasNUL  bool
	flags   []imap.Flag
	date    time.Time
}

type feed struct{ changed func(user, mailbox string) }

var _ interface {
	imapmodel.Model
	imapmodel.Appender
	imapmodel.Flagger
	imapmodel.Remover
	imapmodel.MailboxEditor
	imapmodel.Subscriber
	imapmodel.Transactor
	imapmodel.Copier
	imapmodel.Mover
	imapmodel.Watcher
	imapmodel.SelectHook
	imapmodel.UserHook
} = (*Model)(nil)

// separator is that of imapmodel.Options by default.
const separator = "/"

// New returns a model in which each new user has the given mailboxes, or just
// an INBOX.
func New(mailboxes ...imapmodel.Mailbox) *Model {
	if len(mailboxes) == 0 {
		mailboxes = []imapmodel.Mailbox{{Name: imap.Inbox}}
	}
	return &Model{defaults: mailboxes, users: map[string]*user{}, feeds: map[*feed]struct{}{}}
}

// Features declares everything but FeatureCopy and FeatureMove, which a type
// that embeds Model may add where it overrides neither Append nor Remove.
func (m *Model) Features() imapmodel.Features {
	return imapmodel.FeatureAppend | imapmodel.FeatureFlags | imapmodel.FeatureRemove |
		imapmodel.FeatureMailboxes | imapmodel.FeatureSubscribe | imapmodel.FeatureAtomic |
		imapmodel.FeatureWatch | imapmodel.FeatureSelect | imapmodel.FeatureUser |
		imapmodel.FeatureSpecialUse | imapmodel.FeatureBinary | imapmodel.FeatureUTF8
}

// AddMailbox makes a mailbox, or changes what an existing one looks like. Its
// messages stay.
func (m *Model) AddMailbox(user string, info imapmodel.Mailbox) {
	m.mu.Lock()
	u := m.user(user)
	if b := u.mailboxes[info.Name]; b != nil {
		b.info = info
	} else {
		u.mailboxes[info.Name] = newMailbox(info)
	}
	m.mu.Unlock()
	m.notify(user, "")
}

// Add adds a message, with the present time as its date, and returns its key.
// text is in the form of RFC 5322 with CRLF at the ends of lines. User and
// mailbox are made where they are missing.
func (m *Model) Add(user, mailbox, text string, flags ...imap.Flag) (key string) {
	return m.AddAt(user, mailbox, text, time.Now(), flags...)
}

// AddAt is Add with a date.
func (m *Model) AddAt(user, mailbox, text string, date time.Time, flags ...imap.Flag) (key string) {
	m.mu.Lock()
	u := m.user(user)
	b, name := u.mailboxes[mailbox], mailbox
	if b == nil {
		b, name = newMailbox(imapmodel.Mailbox{Name: mailbox}), ""
		u.mailboxes[mailbox] = b
	}
	s := m.store(b, []byte(text), flags, date)
	m.mu.Unlock()
	m.notify(user, name)
	return s.key
}

// Replace gives a message another text. To clients the old message is expunged
// and a new one appears. Nothing happens where there is no such message.
func (m *Model) Replace(user, mailbox, key, text string) {
	m.mu.Lock()
	if b := m.user(user).mailboxes[mailbox]; b != nil && b.byKey[key] != nil {
		s := *b.byKey[key]
		s.version++
		s.text, s.hasNUL = []byte(text), strings.IndexByte(text, 0) >= 0
		b.replace(&s)
	}
	m.mu.Unlock()
	m.notify(user, mailbox)
}

// Changed tells whoever watches that something has changed, for types that
// embed Model and show something else than it holds. See imapmodel.Watcher.
func (m *Model) Changed(user, mailbox string) { m.notify(user, mailbox) }

func newMailbox(info imapmodel.Mailbox) *mailbox {
	return &mailbox{info: info, byKey: map[string]*stored{}}
}

// user returns a user, made where missing; mu is held.
func (m *Model) user(name string) *user {
	u := m.users[name]
	if u == nil {
		u = &user{mailboxes: map[string]*mailbox{}, subscribed: map[string]bool{}}
		for _, info := range m.defaults {
			u.mailboxes[info.Name] = newMailbox(info)
			if info.Subscribed {
				u.subscribed[info.Name] = true
			}
		}
		m.users[name] = u
	}
	return u
}

// mailbox returns a mailbox; mu is held.
func (m *Model) mailbox(user, name string) (*mailbox, error) {
	if b := m.user(user).mailboxes[name]; b != nil {
		return b, nil
	}
	return nil, imap.E("memory: mailbox "+name, imap.NotFound, nil)
}

// store adds a message; mu is held.
func (m *Model) store(b *mailbox, text []byte, flags []imap.Flag, date time.Time) *stored {
	m.lastKey++
	s := &stored{key: strconv.FormatUint(m.lastKey, 10), text: text, hasNUL: bytes.IndexByte(text, 0) >= 0, flags: slices.Clone(flags), date: date}
	b.messages = append(b.messages, s)
	b.byKey[s.key] = s
	return s
}

// replace puts s in the place of the message with its key.
func (b *mailbox) replace(s *stored) {
	b.messages[slices.Index(b.messages, b.byKey[s.key])] = s
	b.byKey[s.key] = s
}

// take removes messages and returns them.
func (b *mailbox) take(keys []string) []*stored {
	doomed := map[*stored]bool{}
	var taken []*stored
	for _, key := range keys {
		if s := b.byKey[key]; s != nil {
			doomed[s] = true
			taken = append(taken, s)
			delete(b.byKey, key)
		}
	}
	b.messages = slices.DeleteFunc(b.messages, func(s *stored) bool { return doomed[s] })
	return taken
}

// Mailboxes lists a user's mailboxes.
func (m *Model) Mailboxes(_ context.Context, user string) ([]imapmodel.Mailbox, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.user(user)
	var list []imapmodel.Mailbox
	for name, b := range u.mailboxes {
		info := b.info
		info.Subscribed = u.subscribed[name]
		list = append(list, info)
	}
	for name := range u.subscribed {
		if u.mailboxes[name] == nil {
			list = append(list, imapmodel.Mailbox{Name: name, Subscribed: true, Missing: true})
		}
	}
	slices.SortFunc(list, func(a, b imapmodel.Mailbox) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Messages lists the messages of a mailbox in order of arrival.
func (m *Model) Messages(_ context.Context, user, mailbox string) ([]imapmodel.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.mailbox(user, mailbox)
	if err != nil {
		return nil, err
	}
	list := make([]imapmodel.Message, len(b.messages))
	for i, s := range b.messages {
		list[i] = imapmodel.Message{
			Key: s.key, Flags: s.flags, Date: s.date,
			Size: int64(len(s.text)), HasNUL: s.hasNUL,
		}
		if s.version > 0 {
			list[i].Version = strconv.FormatUint(s.version, 10)
		}
	}
	return list, nil
}

// Open returns the text of a message.
func (m *Model) Open(_ context.Context, user, mailbox, key string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.mailbox(user, mailbox)
	if err != nil {
		return nil, err
	}
	s := b.byKey[key]
	if s == nil {
		return nil, imap.E(fmt.Sprintf("memory: message %s of %s", key, mailbox), imap.NotFound, nil)
	}
	return imapmodel.OpenBytes(s.text), nil
}

// Watch calls changed after each change.
func (m *Model) Watch(changed func(user, mailbox string)) (stop func()) {
	f := &feed{changed}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.feeds[f] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.feeds, f)
	}
}

// notify tells all that watch. mu is not held.
func (m *Model) notify(user, mailbox string) {
	m.mu.Lock()
	feeds := make([]*feed, 0, len(m.feeds))
	for f := range m.feeds {
		feeds = append(feeds, f)
	}
	m.mu.Unlock()
	for _, f := range feeds {
		f.changed(user, mailbox)
	}
}

// Selected does nothing; it is there to be overridden.
func (m *Model) Selected(context.Context, string, string) error { return nil }

// Unselected does nothing; it is there to be overridden.
func (m *Model) Unselected(string, string) {}

// LoggedIn does nothing; it is there to be overridden.
func (m *Model) LoggedIn(context.Context, string) error { return nil }

// LoggedOut does nothing; it is there to be overridden.
func (m *Model) LoggedOut(string) {}

package imapmodel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
)

// upload keeps a message that is being appended: in RAM while it is small,
// else in a temporary file.
type upload struct {
	small bytes.Buffer
	file  *os.File
	size  int64
}

const uploadInRAM = 256 << 10

func (u *upload) Write(p []byte) (int, error) {
	if u.file == nil && u.small.Len()+len(p) > uploadInRAM {
		f, err := os.CreateTemp("", "imapmodel-upload-*")
		if err != nil {
			return 0, fmt.Errorf("imapmodel: upload: %w", err)
		}
		u.file = f
		if _, err := f.Write(u.small.Bytes()); err != nil {
			return 0, fmt.Errorf("imapmodel: upload: %w", err)
		}
		u.small = bytes.Buffer{}
	}
	var n int
	var err error
	if u.file != nil {
		n, err = u.file.Write(p)
	} else {
		n, err = u.small.Write(p)
	}
	u.size += int64(n)
	return n, err
}

// reader returns a reader of the whole message.
func (u *upload) reader() io.Reader {
	if u.file != nil {
		return io.NewSectionReader(u.file, 0, u.size)
	}
	return bytes.NewReader(u.small.Bytes())
}

func (u *upload) Discard() {
	u.small = bytes.Buffer{}
	if u.file != nil {
		u.file.Close()
		os.Remove(u.file.Name())
		u.file = nil
	}
}

func (s *accountSession) Upload(_ context.Context, size int64) (imapserver.Upload, error) {
	if s.b.parts.appender == nil {
		return nil, &imap.Error{Op: "imapmodel: append", Kind: imap.Cannot, Text: "Messages cannot be added here"}
	}
	u := &upload{}
	if size <= uploadInRAM {
		u.small.Grow(int(max(size, 0)))
	}
	return u, nil
}

func (s *accountSession) Append(ctx context.Context, name string, msgs []imapserver.AppendMessage) (*imapserver.AppendResult, error) {
	defer func() {
		for _, m := range msgs {
			m.Upload.Discard()
		}
	}()
	if err := s.write.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.write.release()
	bx, err := s.box(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := bx.writable(); err != nil {
		return nil, err
	}
	if err := bx.turn.acquire(ctx); err != nil {
		return nil, err
	}
	defer bx.turn.release()
	bx.retry.reset()
	news, err := bx.newMessages(msgs)
	if err != nil {
		return nil, err
	}
	if s.b.parts.transactor == nil && len(news) > 1 {
		return nil, &imap.Error{Op: "imapmodel: append", Kind: imap.Cannot, Text: "Only one message at a time can be added here"}
	}
	keys, err := bx.appendAll(ctx, news)
	if err != nil {
		return nil, err
	}
	return bx.appended(ctx, keys, news), nil
}

func (bx *box) newMessages(msgs []imapserver.AppendMessage) ([]*NewMessage, error) {
	news := make([]*NewMessage, len(msgs))
	for i, m := range msgs {
		u, ok := m.Upload.(*upload)
		if !ok {
			return nil, errors.New("imapmodel: append: the upload belongs to another back end")
		}
		date := m.Date.AsTime()
		if m.Date == 0 {
			date = bx.b.opts.Clock()
		}
		var flags []imap.Flag
		for _, f := range cleanFlags(m.Flags) {
			if !HasFlag(flags, f) {
				flags = append(flags, f.Canonical())
			}
		}
		news[i] = &NewMessage{Text: u.reader(), Size: u.size, Flags: flags, Date: date}
	}
	return news, nil
}

// appendAll adds messages to the model, all or none as far as the model can.
func (bx *box) appendAll(ctx context.Context, msgs []*NewMessage) (keys []string, err error) {
	err = bx.b.atomically(ctx, bx.acct.user, func(ctx context.Context) error {
		for _, m := range msgs {
			key, err := bx.appendOne(ctx, m)
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func (bx *box) appendOne(ctx context.Context, msg *NewMessage) (key string, err error) {
	name := bx.modelName()
	key, err = bx.b.parts.appender.Append(ctx, bx.acct.user, name, msg)
	return key, modelError("append to "+name, err)
}

// undoAppend removes what a COPY has added before it failed, for models that
// cannot do that themselves.
func (bx *box) undoAppend(ctx context.Context, keys []string) {
	keys = slices.DeleteFunc(keys, func(k string) bool { return k == "" })
	if len(keys) == 0 || bx.b.parts.transactor != nil {
		return
	}
	bx.dirty.Store(true)
	err := errors.New("the model does not declare FeatureRemove")
	if r := bx.b.parts.remover; r != nil {
		err = r.Remove(context.WithoutCancel(ctx), bx.acct.user, bx.modelName(), keys)
	}
	if err != nil {
		bx.b.opts.Log.Error("a copy of several messages failed, and those that were made cannot be removed",
			"user", bx.acct.user, "mailbox", bx.modelName(), "count", len(keys), "err", err)
	}
}

// appended looks at the mailbox and says which UIDs the new messages have. They
// are the model's now, so a look that fails does not make the APPEND fail.
func (bx *box) appended(ctx context.Context, keys []string, msgs []*NewMessage) *imapserver.AppendResult {
	p := plan{begin: map[string][]imap.Flag{}}
	for i, key := range keys {
		p.begin[key] = msgs[i].Flags
	}
	if err := bx.lookAs(context.WithoutCancel(ctx), p); err != nil {
		bx.b.opts.Log.Error("a message was appended, but listing it failed", "user", bx.acct.user, "mailbox", bx.modelName(), "err", err)
	}
	res := &imapserver.AppendResult{UIDValidity: bx.snap.Load().UIDValidity()}
	for _, key := range keys {
		it := bx.byKey[key]
		if it == nil {
			// The model took the message and does not show it here.
			res.UIDs = nil
			break
		}
		res.UIDs = append(res.UIDs, it.uid)
	}
	return res
}

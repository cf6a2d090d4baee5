package imapserver

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// uidPlus is RFC 4315: UID EXPUNGE, and the response codes APPENDUID and
// COPYUID.
func uidPlus() *Extension {
	return &Extension{
		Name: "UIDPLUS", RFC: "4315",
		Capabilities: []Capability{{Name: "UIDPLUS"}},
	}
}

// okAppend says where appended messages went.
func (c *Call) okAppend(res *AppendResult) {
	var set imap.UIDSet
	for _, u := range res.UIDs {
		set.Add(u)
	}
	if set.IsEmpty() || res.UIDValidity == 0 {
		return
	}
	c.OK("APPENDUID "+decimal(int64(res.UIDValidity))+" "+set.String(), "APPEND completed")
}

// copyUID is the COPYUID code of a copy, or "" where nothing was copied.
func copyUID(res *CopyResult) string {
	if len(res.Source) == 0 || res.UIDValidity == 0 {
		return ""
	}
	dst := append([]byte("COPYUID "), decimal(int64(res.UIDValidity))...)
	dst = append(dst, ' ')
	dst = appendUIDs(dst, res.Source)
	dst = append(dst, ' ')
	return string(appendUIDs(dst, res.Dest))
}

// appendUIDs appends UIDs in their order, runs of ascending ones as ranges: the
// n-th of the source belongs to the n-th of the destination.
func appendUIDs(dst []byte, uids []imap.UID) []byte {
	for i := 0; i < len(uids); {
		j := i
		for j+1 < len(uids) && uids[j+1] == uids[j]+1 {
			j++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = imap.UIDRange{Start: uids[i], Stop: uids[j]}.AppendWire(dst)
		i = j + 1
	}
	return dst
}

// expungeCommand is EXPUNGE and UID EXPUNGE (RFC 9051 sections 6.4.3, 6.4.9).
func expungeCommand() *Command {
	return &Command{Name: "EXPUNGE", Args: "[SP sequence-set]", States: Selected, UID: true, Parse: func(c *Call, d *imapwire.Decoder) Run {
		if !c.UID {
			return func(ctx context.Context) error { return c.expunge(ctx, nil) }
		}
		d.SP()
		set, saved := d.NumSet()
		return func(ctx context.Context) error {
			uids, err := c.Conn.sel.resolve(set, saved, true)
			if err != nil {
				return err
			}
			return c.expunge(ctx, &uids)
		}
	}}
}

func (c *Call) expunge(ctx context.Context, uids *imap.UIDSet) error {
	sel := c.Conn.sel
	if sel.readOnly {
		return errReadOnly
	}
	before := sel.latest.HighestModSeq()
	if err := sel.box.Expunge(ctx, uids); err != nil {
		return err
	}
	if err := sel.flush(ctx, c.Conn, flushAll, nil); err != nil {
		return err
	}
	// RFC 7162 section 3.2.7: a client with QRESYNC is told the mod-sequence.
	if now := sel.latest.HighestModSeq(); c.Conn.enabled.qresync && now != before {
		c.OK("HIGHESTMODSEQ "+decimal(int64(now)), "Expunged")
	}
	return nil
}

var errReadOnly = imap.No("", "The mailbox is open for reading only")

package imapserver

import (
	"io"
	"strconv"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// baseFetchItems are the items of RFC 3501 and RFC 9051.
func baseFetchItems() []*FetchItem {
	return []*FetchItem{
		{Name: "UID", Att: rowAtt(func(dst []byte, m *FetchMessage) []byte {
			return strconv.AppendUint(append(dst, "UID "...), uint64(m.Row.UID), 10)
		})},
		{Name: "FLAGS", Att: rowAtt(func(dst []byte, m *FetchMessage) []byte {
			return append(append(dst, "FLAGS "...), m.from.sel.wireFlags(m.Row.UID, m.Row.Flags)...)
		})},
		{Name: "INTERNALDATE", Att: rowAtt(func(dst []byte, m *FetchMessage) []byte {
			return imapwire.AppendDateTime(append(dst, "INTERNALDATE "...), m.Row.Date)
		})},
		{Name: "RFC822.SIZE", Att: rowAtt(func(dst []byte, m *FetchMessage) []byte {
			return strconv.AppendUint(append(dst, "RFC822.SIZE "...), uint64(m.Row.Size), 10)
		})},
		wireItem("ENVELOPE", func(m *FetchMessage) []byte { return m.Wire.Envelope }),
		wireItem("BODYSTRUCTURE", func(m *FetchMessage) []byte { return m.Wire.BodyStructure }),
		{Name: "BODY", Parse: parseBody(true)},
		{Name: "BODY.PEEK", Parse: parseBody(false)},
		{Name: "RFC822", Att: (&bodySection{name: "RFC822", part: partAll}).att(true)},
		{Name: "RFC822.HEADER", Att: (&bodySection{name: "RFC822.HEADER", part: partHeader}).att(false)},
		{Name: "RFC822.TEXT", Att: (&bodySection{name: "RFC822.TEXT", part: partText}).att(true)},
	}
}

// rowAtt is an item that the index alone has, as row appends it. Where all items
// of a FETCH are of that kind, a response is one piece (fetcher.writeRows).
func rowAtt(row func(dst []byte, m *FetchMessage) []byte) *FetchAtt {
	return &FetchAtt{row: row, Write: func(w *imapwire.Encoder, m *FetchMessage) error {
		w.Append(func(dst []byte) []byte { return row(dst, m) })
		return nil
	}}
}

// wireItem is an item whose value is kept in wire form.
func wireItem(name string, value func(*FetchMessage) []byte) *FetchItem {
	return &FetchItem{Name: name, Att: &FetchAtt{Need: NeedWire, Write: func(w *imapwire.Encoder, m *FetchMessage) error {
		w.Raw(name)
		w.SP()
		w.RawBytes(value(m))
		return nil
	}}}
}

// objectID is RFC 8474.
func objectID() *Extension {
	write := func(name string, id func(*FetchMessage) imap.ObjectID) *FetchItem {
		return &FetchItem{Name: name, Att: &FetchAtt{Need: NeedIDs, Write: func(w *imapwire.Encoder, m *FetchMessage) error {
			w.Raw(name)
			if v := id(m); v != "" {
				w.Raw(" (" + string(v) + ")")
			} else {
				w.Raw(" NIL")
			}
			return nil
		}}}
	}
	return &Extension{
		Name: "OBJECTID", RFC: "8474", Needs: FeatureObjectID,
		Capabilities: []Capability{{Name: "OBJECTID"}},
		FetchItems: []*FetchItem{
			write("EMAILID", func(m *FetchMessage) imap.ObjectID { return m.EmailID }),
			write("THREADID", func(m *FetchMessage) imap.ObjectID { return m.ThreadID }),
		},
		SearchKeys: []*SearchKey{
			idKey("EMAILID", func(m *Message) imap.ObjectID { return m.EmailID }),
			idKey("THREADID", func(m *Message) imap.ObjectID { return m.ThreadID }),
		},
		StatusItems: []*StatusItem{{Name: "MAILBOXID", Write: func(w *imapwire.Encoder, m *StatusMailbox) error {
			w.Raw("(" + string(m.ID) + ")")
			return nil
		}}},
	}
}

// idKey is a search key that compares an object identifier.
func idKey(name string, id func(*Message) imap.ObjectID) *SearchKey {
	return &SearchKey{Name: name, Parse: func(_ *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		want := imap.ObjectID(d.Astring())
		return Matcher{Need: NeedIDs, Match: func(_ *SearchMessage, m *Message) bool { return id(m) == want }}
	}}
}

// saveDate is RFC 8514.
func saveDate() *Extension {
	key := func(name string, match func(saved, day imap.Date) bool) *SearchKey {
		return &SearchKey{Name: name, Parse: func(_ *Call, d *imapwire.Decoder) Matcher {
			d.SP()
			day := d.Date()
			return Matcher{Row: func(m *SearchMessage) bool {
				return m.Row.SaveDate != 0 && match(imap.MakeTime(m.Row.SaveDate, 0).Date(), day)
			}}
		}}
	}
	return &Extension{
		Name: "SAVEDATE", RFC: "8514", Needs: FeatureSaveDate,
		Capabilities: []Capability{{Name: "SAVEDATE"}},
		FetchItems: []*FetchItem{{Name: "SAVEDATE", Att: &FetchAtt{Write: func(w *imapwire.Encoder, m *FetchMessage) error {
			w.Raw("SAVEDATE ")
			if m.Row.SaveDate == 0 {
				w.Nil()
			} else {
				w.DateTime(imap.MakeTime(m.Row.SaveDate, 0))
			}
			return nil
		}}}},
		SearchKeys: []*SearchKey{
			key("SAVEDBEFORE", func(s, d imap.Date) bool { return s < d }),
			key("SAVEDON", func(s, d imap.Date) bool { return s == d }),
			key("SAVEDSINCE", func(s, d imap.Date) bool { return s >= d }),
			{Name: "SAVEDATESUPPORTED", Parse: func(*Call, *imapwire.Decoder) Matcher {
				return Matcher{Row: func(*SearchMessage) bool { return true }}
			}},
		},
	}
}

// preview is RFC 8970. The preview is made at delivery, so LAZY has nothing to
// be lazy about.
func preview() *Extension {
	att := &FetchAtt{Need: NeedDigest, Write: func(w *imapwire.Encoder, m *FetchMessage) error {
		w.Raw("PREVIEW ")
		w.String(m.Digest.Preview)
		return nil
	}}
	return &Extension{
		Name: "PREVIEW", RFC: "8970",
		Capabilities: []Capability{{Name: "PREVIEW"}},
		FetchItems: []*FetchItem{{Name: "PREVIEW", Parse: func(_ *Call, d *imapwire.Decoder, opts *FetchOptions) (*FetchAtt, error) {
			if !opts.inList || !d.TrySP() {
				return att, nil
			}
			if d.Peek() != '(' {
				opts.tookSP = true
				return att, nil
			}
			d.NonEmptyList(func() {
				if word := keyword(d, "LAZY"); d.Err() == nil && word != "LAZY" {
					d.Fail("LAZY", word)
				}
			})
			return att, nil
		}}},
		// Where PREVIEW stands without a list, its modifier looks like one of
		// the command.
		FetchMods: []*FetchModifier{{Name: "LAZY", Parse: func(*Call, *imapwire.Decoder, *FetchOptions) {}}},
	}
}

// sectionReader is an io.SectionReader of a half-open range.
func sectionReader(r io.ReaderAt, from, to int64) *io.SectionReader {
	return io.NewSectionReader(r, from, to-from)
}

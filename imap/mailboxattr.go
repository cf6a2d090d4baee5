package imap

// MailboxAttr is a mailbox attribute of a LIST response (RFC 9051 section
// 7.3.1). Attributes compare without regard to ASCII case.
type MailboxAttr string

// Attributes about what a name is and has (RFC 9051 section 7.3.1, RFC 5258).
const (
	AttrNoinferiors   MailboxAttr = `\Noinferiors`
	AttrNoselect      MailboxAttr = `\Noselect`
	AttrNonExistent   MailboxAttr = `\NonExistent`
	AttrHasChildren   MailboxAttr = `\HasChildren`
	AttrHasNoChildren MailboxAttr = `\HasNoChildren`
	AttrMarked        MailboxAttr = `\Marked`
	AttrUnmarked      MailboxAttr = `\Unmarked`
	AttrSubscribed    MailboxAttr = `\Subscribed`
	AttrRemote        MailboxAttr = `\Remote`
	AttrNoAccess      MailboxAttr = `\NoAccess` // RFC 5257's registry entry for LIST
)

// Special uses (RFC 6154; \Important is RFC 8457's, \Memos and the rest are
// in IANA's registry).
const (
	AttrAll       MailboxAttr = `\All`
	AttrArchive   MailboxAttr = `\Archive`
	AttrDrafts    MailboxAttr = `\Drafts`
	AttrFlagged   MailboxAttr = `\Flagged`
	AttrJunk      MailboxAttr = `\Junk`
	AttrSent      MailboxAttr = `\Sent`
	AttrTrash     MailboxAttr = `\Trash`
	AttrImportant MailboxAttr = `\Important`
	AttrMemos     MailboxAttr = `\Memos`
	AttrScheduled MailboxAttr = `\Scheduled`
	AttrSnoozed   MailboxAttr = `\Snoozed`
)

// Canonical returns a registered attribute in its registered case, anything
// else unchanged.
func (a MailboxAttr) Canonical() MailboxAttr {
	for _, known := range [...]MailboxAttr{
		AttrNoinferiors, AttrNoselect, AttrNonExistent, AttrHasChildren, AttrHasNoChildren,
		AttrMarked, AttrUnmarked, AttrSubscribed, AttrRemote, AttrNoAccess,
	} {
		if equalFold(string(a), string(known)) {
			return known
		}
	}
	if use, ok := a.specialUse(); ok {
		return use
	}
	return a
}

// IsSpecialUse reports whether a says what a mailbox is for (RFC 6154), in
// any case.
func (a MailboxAttr) IsSpecialUse() bool {
	_, ok := a.specialUse()
	return ok
}

func (a MailboxAttr) specialUse() (MailboxAttr, bool) {
	for _, known := range [...]MailboxAttr{
		AttrAll, AttrArchive, AttrDrafts, AttrFlagged, AttrJunk, AttrSent,
		AttrTrash, AttrImportant, AttrMemos, AttrScheduled, AttrSnoozed,
	} {
		if equalFold(string(a), string(known)) {
			return known, true
		}
	}
	return "", false
}

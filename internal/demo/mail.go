package demo

import (
	"time"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/rookery-mail/rookery/imap"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

func (m *maker) inbox() []Message {
	msgs := m.chessThread()
	msgs = append(msgs, m.scripts()...)
	msgs = append(msgs,
		m.message(head{from: bob, subject: "The report, and the figures", ago: 26 * hour},
			multipart("mixed", "=-figures",
				text("Hello,\n\nthe report is attached as PDF, the figures as CSV; the file names show\nhow names beyond ASCII travel (RFC 2231).\n\nBob\n"),
				file("application/pdf; name*=utf-8''Bericht%20%E2%80%93%20M%C3%A4rz.pdf", "attachment; filename*=utf-8''Bericht%20%E2%80%93%20M%C3%A4rz.pdf", page("The report of the rookery")),
				file("text/csv; charset=utf-8; name=figures.csv", "attachment; filename=figures.csv", []byte("month,nests,birds\r\nMarch,12,31\r\nApril,19,58\r\n"))),
			imap.FlagFlagged),
		m.message(head{from: ann, subject: "A picture of the tower", ago: 20 * hour},
			multipart("alternative", "=-alt",
				text("Here is the tower. (Your program shows plain text: the picture is in the\nHTML part.)\n"),
				multipart("related", "=-rel",
					html("<html><body><p>Here is the <b>tower</b>:</p>\n<p><img src=\"cid:tower@rookery.example\" alt=\"a rook\" width=\"128\"></p></body></html>\n"),
					"Content-ID: <tower@rookery.example>\r\n"+file("image/png; name=tower.png", "inline; filename=tower.png", rook(8))))),
		m.message(head{from: carla, subject: "Fwd: Lost feather", ago: 15 * hour},
			multipart("mixed", "=-fwd",
				text("I forward the whole message, so you can look at it from inside.\n\nCarla\n"),
				"Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n"+
					"From: finder@meadow.example\r\nTo: carla@magpie.example\r\nSubject: Lost feather\r\nDate: Mon, 5 Feb 2024 09:12:00 +0100\r\nMessage-ID: <feather@meadow.example>\r\nMIME-Version: 1.0\r\n"+
					multipart("mixed", "=-inner",
						text("Found under the old elm. Is it yours?\n"),
						file("image/png; name=feather.png", "attachment; filename=feather.png", rook(2)))),
			imap.FlagForwarded, imap.FlagSeen),
		m.message(head{from: ann, subject: "Tea on Thursday?", ago: 9 * hour},
			multipart("mixed", "=-cal",
				text("Would Thursday suit you?\n"),
				"Content-Type: text/calendar; charset=utf-8; method=REQUEST\r\n\r\n"+m.invitation())),
		m.message(head{from: "Rookery <rookery@rookery.example>", subject: "Welcome to Rookery", ago: hour,
			extra: "Importance: normal\r\n"},
			multipart("alternative", "=-welcome", text(welcomeText), html(welcomeHTML))))
	return msgs
}

const welcomeText = `Hello,

this mailbox is sample mail of a Rookery demo. Try:

  - the thread "Opening for Saturday", answered by several people;
  - the search for "Krähe" or "ворона": it finds text inside encodings;
  - the mailboxes Sent, Drafts, Junk, Trash and Archive, which your program
    should have recognised for what they are;
  - moving, deleting and flagging mail, with two programs side by side.

Nothing here is precious: the next start of the demo begins afresh.
`

const welcomeHTML = `<html><body>
<p>Hello,</p>
<p>this mailbox is sample mail of a <b>Rookery</b> demo. Try:</p>
<ul>
<li>the thread <i>Opening for Saturday</i>, answered by several people;</li>
<li>the search for <b>Kr&auml;he</b> or <b>ворона</b>: it finds text inside encodings;</li>
<li>the mailboxes Sent, Drafts, Junk, Trash and Archive, which your program should have recognised for what they are;</li>
<li>moving, deleting and flagging mail, with two programs side by side.</li>
</ul>
<p>Nothing here is precious: the next start of the demo begins afresh.</p>
</body></html>
`

// invitation makes an appointment next week.
func (m *maker) invitation() string {
	at := m.now.Add(7 * day).UTC().Truncate(hour)
	const form = "20060102T150405Z"
	return crlf("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//Rookery//Demo//EN\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:tea@rookery.example\n" +
		"DTSTAMP:" + m.now.UTC().Format(form) + "\nDTSTART:" + at.Format(form) + "\nDTEND:" + at.Add(hour).Format(form) +
		"\nSUMMARY:Tea\nORGANIZER:mailto:ann@rookery.example\nATTENDEE:mailto:demo@rookery.example\nEND:VEVENT\nEND:VCALENDAR\n")
}

// chessThread is a conversation with a branch.
func (m *maker) chessThread() []Message {
	const a, b, c = "opening-1@rookery.example", "opening-2@jackdaw.example", "opening-3@magpie.example"
	return []Message{
		m.message(head{id: a, from: ann, to: me + ",\r\n " + bob + ",\r\n " + carla, subject: "Opening for Saturday", ago: 6 * day},
			text("Dear all,\n\nwhich opening do we prepare for Saturday? I would like something with an\nearly castling.\n\nAnn\n"), imap.FlagSeen, imap.FlagAnswered),
		m.message(head{id: b, from: bob, to: ann, subject: "Re: Opening for Saturday", ago: 6*day - 3*hour, reply: a, extra: "Cc: " + me + "\r\n"},
			text("> which opening do we prepare for Saturday?\n\nThe Italian. Everybody knows it, so nobody expects it.\n\nBob\n"), imap.FlagSeen),
		m.message(head{id: c, from: carla, to: bob, subject: "Re: Opening for Saturday", ago: 5 * day, reply: b, refs: "<" + a + ">\r\n <" + b + ">", extra: "Cc: " + me + "\r\n"},
			text("> The Italian. Everybody knows it, so nobody expects it.\n\n¿Y si jugamos la española? It is older than all of us together.\n\nCarla\n"), imap.FlagSeen),
		m.message(head{id: "opening-4@rookery.example", from: ann, to: carla, subject: "Re: Opening for Saturday", ago: 4 * day, reply: c, refs: "<" + a + ">\r\n <" + b + ">\r\n <" + c + ">", extra: "Cc: " + me + "\r\n"},
			text("Agreed, the Spanish it is. Demo, you have Black on board two.\n\nAnn\n"), imap.FlagFlagged, imap.FlagImportant),
		m.message(head{id: "opening-5@jackdaw.example", from: bob, to: ann, subject: "Re: Opening for Saturday", ago: 4*day - 2*hour, reply: a, extra: "Cc: " + me + "\r\n"},
			text("> an early castling\n\nThen bring a clock this time.\n\nBob\n")),
	}
}

// scripts are messages in several charsets and encodings.
func (m *maker) scripts() []Message {
	koi, jis, latin := charmap.KOI8R, japanese.ISO2022JP, charmap.ISO8859_1
	gb := simplifiedchinese.GB18030
	return []Message{
		m.message(head{from: word("KOI8-R", koi, "Иван Грачёв") + " <ivan@grach.example>", subject: word("KOI8-R", koi, "Серая ворона"), ago: 70 * hour},
			in("koi8-r", koi, "8bit", "Привет!\n\nНа башне сидит серая ворона и смотрит на шахматную доску.\n\nИван\n"), imap.FlagSeen),
		m.message(head{from: word("ISO-2022-JP", jis, "烏丸 花子") + " <hanako@karasu.example>", subject: word("ISO-2022-JP", jis, "塔の上の烏"), ago: 64 * hour},
			in("iso-2022-jp", jis, "7bit", "こんにちは。\n\n塔の上に烏が一羽います。写真を送ります。\n\n花子\n")),
		m.message(head{from: "=?iso-8859-1?Q?J=F6rg_Kr=E4he?= <joerg@kraehe.example>", subject: "=?iso-8859-1?Q?Gr=FC=DFe_von_der_Kr=E4he?=", ago: 58 * hour},
			in("iso-8859-1", latin, "quoted-printable", "Hallo,\n\nviele Grüße von der Krähe auf dem Turm! Dieser Satz ist absichtlich so lang, dass er in quoted-printable umbrochen werden muss.\n\nJörg\n"), imap.FlagSeen, imap.FlagAnswered),
		m.message(head{from: word("GB18030", gb, "王鸦") + " <wang@ya.example>", subject: word("GB18030", gb, "乌鸦与塔"), ago: 52 * hour},
			in("gb18030", gb, "base64", "你好！\n\n乌鸦坐在塔上。\n")),
		m.message(head{from: "نورا <nora@ghurab.example>", subject: "الغراب على البرج", ago: 46 * hour},
			text("مرحبا،\n\nالغراب على البرج.\n\nنورا\n")),
		m.message(head{from: "Νίκη <niki@korakas.example>", subject: "Το κοράκι στον πύργο ♜", ago: 40 * hour},
			text("Γεια σου!\n\nΤο κοράκι κάθεται στον πύργο. ♜ 🐦\u200d⬛\n")),
		m.message(head{from: carla, subject: "No text, only HTML", ago: 34 * hour},
			html("<html><head><style>p { color: #2b3348 }</style></head><body><p>Some programs send nothing but <b>HTML</b>. A search finds what a reader sees, &ldquo;na&iuml;ve caf&eacute;&rdquo; for one.</p></body></html>\n")),
	}
}

func (m *maker) archive() []Message {
	var msgs []Message
	for i, subject := range [...]string{"Minutes of the first meeting", "Minutes of the second meeting", "Minutes of the third meeting"} {
		msgs = append(msgs, m.message(head{from: ann, subject: subject, ago: time.Duration(400-90*i) * day},
			text("Present: Ann, Bob, Carla.\n\n1. The tower has been painted.\n2. Any other business: none.\n"), imap.FlagSeen, "archived"))
	}
	return msgs
}

func (m *maker) drafts() []Message {
	return []Message{m.message(head{from: me, to: ann, subject: "Re: Tea on Thursday?", ago: 2 * hour},
		text("Dear Ann,\n\nThursday is\n"), imap.FlagDraft, imap.FlagSeen)}
}

func (m *maker) junk() []Message {
	return []Message{m.message(head{from: "\"Shiny Things Ltd\" <win@shiny.example>", subject: "You have won 1,000,000 shiny things!!!", ago: 30 * hour},
		html("<html><body><h1>CONGRATULATIONS</h1><p>Send us your nest's address today.</p></body></html>\n"), imap.FlagJunk)}
}

func (m *maker) sent() []Message {
	return []Message{m.message(head{from: me, to: ann, subject: "Re: Opening for Saturday", ago: 4*day - hour, reply: "opening-4@rookery.example", refs: "<opening-1@rookery.example>\r\n <opening-4@rookery.example>"},
		text("> Demo, you have Black on board two.\n\nWith pleasure.\n\nDemo\n"), imap.FlagSeen)}
}

func (m *maker) trash() []Message {
	return []Message{m.message(head{from: "newsletter@seeds.example", subject: "Spring offers", ago: 10 * day, extra: "List-Unsubscribe: <mailto:off@seeds.example>\r\n"},
		text("Sunflower seeds, three for two.\n"), imap.FlagSeen, imap.FlagDeleted)}
}

func (m *maker) list() []Message {
	const list = "List-ID: Chess among corvids <chess.lists.example>\r\nList-Post: <mailto:chess@lists.example>\r\n"
	const first = "puzzle@lists.example"
	return []Message{
		m.message(head{id: first, from: bob, to: "chess@lists.example", subject: "[chess] Mate in two", ago: 8 * day, extra: list},
			text("White: Kg1, Qd3, Ra1. Black: Kh8, pawns g7 and h7.\nWhite to move.\n")),
		m.message(head{from: carla, to: "chess@lists.example", subject: "Re: [chess] Mate in two", ago: 7 * day, reply: first, extra: list},
			text("Ra8+, and then the queen.\n")),
	}
}

func (m *maker) travel() []Message {
	return []Message{m.message(head{from: "Bahn <bahn@zug.example>", subject: "Ihre Fahrkarte nach Köln", ago: 12 * day},
		multipart("mixed", "=-ticket", text("Gute Reise nach Köln!\n"),
			file("application/pdf; name=Fahrkarte.pdf", "attachment; filename=Fahrkarte.pdf", page("Fahrkarte"))), imap.FlagSeen)}
}

func (m *maker) japan() []Message {
	jis := japanese.ShiftJIS
	return []Message{m.message(head{from: "hanako@karasu.example", subject: word("Shift_JIS", jis, "写真"), ago: 60 * hour},
		multipart("mixed", "=-photo", in("shift_jis", jis, "base64", "写真を添付します。\n"),
			file("image/png; name=\"=?UTF-8?B?5aGULnBuZw==?=\"", "attachment; filename=\"=?UTF-8?B?5aGULnBuZw==?=\"", rook(4))))}
}

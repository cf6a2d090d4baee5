// Package imaptest tests IMAP servers with transcripts that people can read,
// and with a random test of several sessions on one mailbox.
//
// It is for the author of a model (or of a whole server): give Run a Target
// that makes fresh servers, and everything in this package runs against them,
// but for what Target.Lacks says they cannot do:
//
//	func TestModel(t *testing.T) {
//		imaptest.Run(t, imaptest.Target{
//			Lacks: []string{"PLAIN-PORT", "RESTART", "ACCOUNTS"},
//			New: func(t testing.TB) *imaptest.Server {
//				server := newServer(t) // an *imapserver.Server over an empty model
//				t.Cleanup(func() { server.Close() })
//				return &imaptest.Server{
//					Dial:  imaptest.Pipe(server.ServeConn),
//					Users: []imaptest.User{{Name: "ann", Password: "secret"}},
//				}
//			},
//		})
//	}
//
// It speaks to a server through a net.Conn only and knows nothing of its
// insides; it is not a client library. Start with Target and Run.
//
// # Transcripts
//
// A transcript is a txtar archive: a header, the script, and messages as
// members. Each runs against a fresh server whose accounts hold an empty
// INBOX and nothing else, with "/" between the levels of names, and which
// numbers the messages of a new mailbox from UID 1.
//
//	rfc: 9051 6.4.8            what it proves (required)
//	needs: MOVE UIDPLUS        capabilities it cannot do without (what it needs
//	                           of the other words of Target.Lacks is found out)
//	state: selected b=auth     how connections begin: greeting, start (greeting
//	                           read), auth (default), selected, examined
//	mailbox: INBOX             what selected and examined mean
//	create: Other              mailboxes made beforehand
//	enable: QRESYNC            sent after login, before SELECT
//	user: b=2                  the connection logs in as the second user
//	dial: plain                use Server.DialPlain
//	seed: msg1 (\Seen) "01-Jan-2020 00:00:00 +0000"
//	seed: Other 3              three small stock messages
//	gen: big 70000             a member of that many bytes
//
//	a C: SELECT INBOX
//	a S: * 3 EXISTS
//	a S: OK [READ-WRITE] $_
//
// The letter is the connection. Seeds are appended, and their \Recent taken, by
// a connection that is not shown. In a member LF means CRLF; one named x.esc is
// called x, its newlines mean nothing and it is read as a Go string (\x00).
//
// Lines for the server:
//
//	a C: text     a command; tag and CRLF are supplied. The answer to a "+"
//	              line, and DONE, go without a tag
//	a C+ text     the same, held back to leave in one write with the next C:
//	a C! text     bytes, as a Go string; $tag in it makes and awaits a tag
//	{@m} {@m+}    member m as synchronising or non-synchronising literal, with
//	              ~ before it as literal8; {"text"} for bytes in place
//	<@m>          the bytes of member m in place
//
// Lines of the server must all be accounted for, in order:
//
//	a S: * data   an untagged response; "+" begins a continuation
//	a S: OK       the tagged response of the oldest command not yet answered,
//	              without a response code; text is never compared, except that
//	              ~"part" asks for a part of it, in any case
//	a S: OK $_    with any response code or none
//	a S? * data   may be missing
//	a S: ...      passes over untagged responses up to the next S: line
//	unordered {   the S: lines up to "}" come in any order
//
// In data, $_ matches one element, ... the rest of a list, $x (lower case)
// binds at first sight and compares later; {@m}, {@m[0:10]} and {"text"} are
// strings with these bytes; ~"text" is a string in any case. A word matches
// itself or a string of the same bytes; a "string" matches quoted strings and
// literals only. Flags, capabilities, and the items of FETCH, STATUS and ESEARCH
// compare without order; sets of numbers by what they mean.
//
// Other lines: "? $a < $b" (also >, ==, !=, and "+ n" at the end), "a close",
// "a eof" (the server closes), "a deflate", "a starttls", "restart", and
// comments with #. At the end every connection says LOGOUT and must hear
// nothing but BYE and OK.
//
// Known beforehand: $user, $pass, $user2, $pass2; $plain and $plain2 (base64
// for AUTHENTICATE PLAIN), $proxy (the first user asks to be the second); $tag
// in a S: line; $appendlimit, $toobig.
package imaptest

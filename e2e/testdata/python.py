"""Drives a server with Python's imaplib: host, TLS port, plain port, CA file,
user and password are the arguments. Ends with "imaplib is content".
"""
import imaplib
import ssl
import sys
import time

host, tls_port, plain_port, ca, user, password = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
MESSAGE = b"From: a@x.org\r\nSubject: one\r\nMessage-ID: <1@x.org>\r\n\r\nHello\r\n"


def ok(answer, *want):
    """The data of an answer that must be OK and hold what is wanted."""
    kind, data = answer
    assert kind == "OK", answer
    flat = repr(data)
    for w in want:
        assert w in flat, (w, data)
    return data


def no(call, *args):
    """A call that must be answered with NO, or BAD, which imaplib raises."""
    try:
        kind, data = call(*args)
    except imaplib.IMAP4.error:
        return
    assert kind == "NO", (kind, data)


# Logging in, in all ways.
m = imaplib.IMAP4(host, int(plain_port))
assert "STARTTLS" in m.capabilities and "LOGINDISABLED" in m.capabilities
ok(m.starttls(context))
assert "LOGINDISABLED" not in m.capabilities
no(m.login, user, "wrong")
ok(m.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode()))
assert m.logout()[0] == "BYE"

m = imaplib.IMAP4_SSL(host, int(tls_port), ssl_context=context)
ok(m.login(user, password))
ok(m.noop())
ok(m.capability(), "IMAP4rev1")
ok(m.namespace(), '"/"')

# Mailboxes.
ok(m.create("Work"))
ok(m.create('"Two words/below"'))
no(m.create, "Work")
ok(m.rename("Work", "Play"))
no(m.select, "Work")
ok(m.subscribe("Play"))
ok(m.lsub(), "Play")
ok(m.unsubscribe("Play"))
assert ok(m.lsub('""', "Play")) == [None]
ok(m.list(), "INBOX", "Play", "Two words/below")
ok(m.list('""', '"Two%"'), "Two words")

# Appending, and looking.
when = imaplib.Time2Internaldate(1577836800.0)
ok(m.append("Play", r"(\Seen $Work)", when, MESSAGE), "APPENDUID")
ok(m.append("Play", None, None, MESSAGE.replace(b"one", b"two")))
ok(m.append("Play", "", when, MESSAGE.replace(b"one", b"three")))
no(m.append, "Nowhere", None, None, MESSAGE)
ok(m.status("Play", "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE)"), "MESSAGES 3", "UNSEEN 2", f"SIZE {3 * len(MESSAGE) + 2}")
assert ok(m.select("Play")) == [b"3"]
assert m.response("UIDNEXT")[1] == [b"4"]
ok(m.check())
assert ok(m.search(None, "SUBJECT", "one")) == [b"1"]
assert ok(m.search("UTF-8", "UNSEEN", "BODY", '"hello"')) == [b"2 3"]
assert ok(m.uid("SEARCH", "KEYWORD", "$Work")) == [b"1"]
assert ok(m.fetch("1", "(BODY.PEEK[])"))[0][1] == MESSAGE
data = ok(m.fetch("1:3", "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"), "$Work", " 1-Jan-2020", '"text" "plain"')
assert len(data) == 3, data
ok(m.uid("FETCH", "2:*", "(RFC822.HEADER)"), "two", "three")

# Flags, copies, moves, expunges.
ok(m.store("1:2", "+FLAGS", r"(\Flagged)"), r"\\Flagged")
ok(m.uid("STORE", "1", "-FLAGS.SILENT", r"(\Flagged)"))
assert ok(m.search(None, "FLAGGED")) == [b"2"]
ok(m.copy("1:2", "INBOX"))
ok(m.uid("COPY", "3", '"Two words/below"'))
no(m.copy, "1", "Nowhere")
ok(m.uid("MOVE", "2", "INBOX"))
ok(m.store("1", "+FLAGS", r"\Deleted"))
assert ok(m.expunge()) == [b"2", b"1"]  # the first one is that of the MOVE
assert ok(m.search(None, "ALL")) == [b"1"]
ok(m.unselect())
assert ok(m.select("INBOX", readonly=True)) == [b"3"]
no(m.store, "1", "+FLAGS", r"(\Seen)")
ok(m.close())
ok(m.select("Play"))
ok(m.store("1", "+FLAGS", r"\Deleted"))
ok(m.close())
assert ok(m.select("Play")) == [b"0"]
no(m.getquota, "x")
no(m.xatom, "NOSUCHCOMMAND")
ok(m.recent())

# IDLE by hand, told by a second connection.
other = imaplib.IMAP4_SSL(host, int(tls_port), ssl_context=context)
ok(other.login(user, password))
tag = m._new_tag()
m.send(tag + b" IDLE\r\n")
assert m.readline().startswith(b"+")
ok(other.append("Play", None, None, MESSAGE))
begin = time.monotonic()
line = m.readline()
assert line == b"* 1 EXISTS\r\n", line
assert time.monotonic() - begin < 5
m.send(b"DONE\r\n")
while not (line := m.readline()).startswith(tag):
    assert line.startswith(b"*"), line
assert b" OK" in line, line
assert other.logout()[0] == "BYE"

# UTF-8.
ok(m.unselect())
ok(m.enable("UTF8=ACCEPT"))
assert m.utf8_enabled
ok(m.create('"Entwürfe"'))
ok(m.list('""', "Entw*"), "Entw\\xc3\\xbcrfe")
m.utf8_enabled = False  # this imaplib sends "UTF8 (" within the literal
ok(m.append('"Entwürfe"', None, None, "Subject: Grüße\r\n\r\nx\r\n".encode()))
ok(m.select('"Entwürfe"'))
assert ok(m.search(None, "SUBJECT", '"GRÜ"')) == [b"1"]
ok(m.fetch("1", "(BODY[HEADER])"), "Gr\\xc3\\xbc\\xc3\\x9fe")
ok(m.unselect())
ok(m.delete('"Entwürfe"'))
ok(m.delete("Play"))
no(m.delete, "INBOX")
assert m.logout()[0] == "BYE"
print("imaplib is content")

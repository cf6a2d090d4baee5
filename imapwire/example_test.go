package imapwire_test

import (
	"fmt"
	"os"
	"strings"

	"github.com/rookery-mail/rookery/imapwire"
)

// A grammar reads top-down and looks at the error once.
func ExampleDecoder() {
	d := imapwire.NewDecoder(strings.NewReader("a1 STATUS Entw&APw-rfe (MESSAGES UNSEEN)\r\n"), imapwire.DecoderOptions{})
	var items []string
	tag := d.Tag()
	d.SP()
	command := d.Keyword()
	d.SP()
	mailbox := d.Mailbox()
	d.SP()
	d.NonEmptyList(func() { items = append(items, d.Keyword()) })
	d.CRLF()
	fmt.Println(tag, command, mailbox, items, d.Err())
	// Output: a1 STATUS Entwürfe [MESSAGES UNSEEN] <nil>
}

// An error says where and what; the rest of the command is thrown away.
func ExampleDecoder_DiscardCommand() {
	d := imapwire.NewDecoder(strings.NewReader("a1 DELETE (x) {2+}\r\nhi\r\na2 NOOP\r\n"), imapwire.DecoderOptions{})
	d.Tag()
	d.SP()
	d.Keyword()
	d.SP()
	d.Mailbox()
	fmt.Println(d.Err())
	fmt.Println(d.DiscardCommand())
	d.Begin()
	fmt.Println(d.Tag())
	// Output:
	// expected mailbox name at position 11, got "("
	// <nil>
	// a2
}

func ExampleEncoder() {
	e := imapwire.NewEncoder(os.Stdout, imapwire.EncoderOptions{})
	e.Raw("* LIST () \"/\" ")
	e.Mailbox("Entwürfe")
	e.CRLF()
	e.Flush()
	// Output: * LIST () "/" Entw&APw-rfe
}

// Command gendocs writes docs/extensions.md: what the server speaks, RFC by RFC
// and command by command, from the same values that make it speak so. A test
// fails when the file is stale; `go generate ./...` writes it anew.
package main

import (
	"fmt"
	"os"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

//go:generate go run . ../../docs/extensions.md

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: gendocs FILE")
	}
	exts, err := extensions()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], document(exts), 0o644)
}

// extensions returns all extensions, of a server over a model that can do
// everything.
func extensions() ([]*imapserver.Extension, error) {
	backend, err := imapmodel.New(memory.New(), imapmodel.Options{State: &imapmodel.MemoryState{}})
	if err != nil {
		return nil, err
	}
	srv, err := imapserver.New(backend, imapserver.Passwords{}, imapserver.Options{})
	if err != nil {
		return nil, err
	}
	defer srv.Close()
	return srv.Extensions(), nil
}

// Command rookery is an IMAP server with its own store, and the tools to look
// after it: `rookery serve`, `rookery import`, `rookery user`.
//
// This package has flags, exit codes and what people see on a terminal; the
// work is done by the packages under internal, daemon first of all. Start with
// newRoot.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes, which `rookery --help` tells.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitPartly  = 3
)

func main() {
	survivingFileSize()
	os.Exit(run(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// streams are where a command reads and writes.
type streams struct {
	in  *os.File
	out io.Writer
	err *os.File
}

// run runs one command line and returns its exit code.
func run(args []string, std streams) int {
	// The first signal ends the work in order; a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot(std)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(std.err, "rookery: interrupted")
		return exitFailure
	}
	fmt.Fprintln(std.err, "rookery: "+strings.ReplaceAll(err.Error(), "\n", "\n  "))
	if code, ok := errors.AsType[exitError](err); ok {
		return code.code
	}
	return exitFailure
}

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

// usage makes an error about the command line.
func usage(format string, args ...any) error {
	return exitError{fmt.Errorf(format, args...), exitUsage}
}

// onSignal calls fn when the process is told to end, until stop is called.
func onSignal(fn func()) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-c:
			fn()
		case <-done:
		}
	}()
	return func() { signal.Stop(c); close(done) }
}

package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const rootLong = `Rookery is an IMAP server in one program, with its own store for the mail.

Try it:

  rookery serve --demo

Use it:

  rookery user add --data DIR ann            asks for ann's password
  rookery import maildir ~/Maildir --data DIR --user ann
  rookery serve --data DIR

Look after it:

  rookery status --data DIR                  what does it do?
  rookery check --data DIR                   is anything damaged?
  rookery backup DIR2 --data DIR
  rookery restore DIR2 --data DIR3           or one account, or one mailbox

All of these work whether the server is running or not.
Instead of --data, the environment variable ROOKERY_DATA may name the folder.

Exit codes: 0 done, 1 failed, 2 the command line is wrong, 3 an import or a
restore is done but for messages that could not be read. Those of check are in
its help.`

// newRoot makes the tree of commands.
func newRoot(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "rookery",
		Short:         "An IMAP server with its own store",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w\nSee `%s --help`.", err, cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(std), newImport(std), newUser(std), newStatus(std), newCheck(std), newIndex(std), newBackup(std), newRestore(std), newBench(std), newVersion(std))
	return root
}

func newVersion(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(std.out, "rookery %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// version returns the module's version, or the commit where it was built from
// a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

// noArgs, oneArg check the number of arguments and say what was expected.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return usage("%q is not a command of `%s`\nSee `%s --help`.", args[0], cmd.CommandPath(), cmd.CommandPath())
	}
	return usage("`%s` takes no arguments, but got %q\nSee `%s --help`.", cmd.CommandPath(), args[0], cmd.CommandPath())
}

func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usage("%s is missing\nUsage: %s", what, cmd.UseLine())
		case len(args) > 1:
			return usage("one argument is expected (%s), but %q came too\nUsage: %s", what, args[1], cmd.UseLine())
		}
		return nil
	}
}

// addDataFlag adds --data.
func addDataFlag(cmd *cobra.Command, data *string) {
	cmd.Flags().StringVar(data, "data", os.Getenv("ROOKERY_DATA"), "the `folder` with the mail (or $ROOKERY_DATA)")
}

func checkData(data string) error {
	if data == "" {
		return usage("which folder has the mail? Name it with --data, for example --data ~/mail")
	}
	return nil
}

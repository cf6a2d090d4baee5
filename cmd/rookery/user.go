package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/daemon"
	"github.com/rookery-mail/rookery/internal/passwd"
)

func newUser(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Add, list and remove users, and change their passwords",
		Long: `Users with a password in the store, beside those that a file given to
` + "`rookery serve --passwd`" + ` may name. The commands work while the server runs,
and take effect at once.

Passwords are asked for; where standard input is no terminal, its first line is
the password.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUserAdd(std), newUserPasswd(std), newUserList(std), newUserRemove(std))
	return cmd
}

func newUserAdd(std streams) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "add NAME --data DIR",
		Short: "Add a user; asks for the password",
		Args:  oneArg("the name of the user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withService(cmd.Context(), data, true, func(s admin.Service) error {
				// A name that is taken is told before a password is typed.
				users, err := s.Users(cmd.Context())
				if err != nil {
					return err
				}
				for _, u := range users {
					if u.Name == args[0] {
						return fmt.Errorf("there is a user %q already; `rookery user passwd` changes the password", args[0])
					}
				}
				hash, err := askHash(std, args[0])
				if err != nil {
					return err
				}
				if err := s.AddUser(cmd.Context(), args[0], hash); err != nil {
					return err
				}
				_, err = fmt.Fprintf(std.out, "user %s added\n", args[0])
				return err
			})
		},
	}
	addDataFlag(cmd, &data)
	return cmd
}

func newUserPasswd(std streams) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "passwd NAME --data DIR",
		Short: "Change a user's password; asks for it",
		Args:  oneArg("the name of the user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withService(cmd.Context(), data, false, func(s admin.Service) error {
				hash, err := askHash(std, args[0])
				if err != nil {
					return err
				}
				if err := s.SetPassword(cmd.Context(), args[0], hash); err != nil {
					return err
				}
				_, err = fmt.Fprintf(std.out, "password of %s changed\n", args[0])
				return err
			})
		},
	}
	addDataFlag(cmd, &data)
	return cmd
}

func newUserList(std streams) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "list --data DIR",
		Short: "List the users of the store",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withService(cmd.Context(), data, false, func(s admin.Service) error {
				users, err := s.Users(cmd.Context())
				if err != nil {
					return err
				}
				for _, u := range users {
					if _, err := fmt.Fprintln(std.out, u.Name); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	addDataFlag(cmd, &data)
	return cmd
}

func newUserRemove(std streams) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "remove NAME --data DIR",
		Short: "Remove a user, but not the user's mail",
		Long: `Take away a user's login, and with it the address that mail can be delivered
to. The mail stays in the store, and is there again when a user of the same name
is added.`,
		Args: oneArg("the name of the user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withService(cmd.Context(), data, false, func(s admin.Service) error {
				if err := s.RemoveUser(cmd.Context(), args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintf(std.out, "user %s removed; the mail is kept\n", args[0])
				return err
			})
		},
	}
	addDataFlag(cmd, &data)
	return cmd
}

// withService reaches the server that has the folder, or opens the store, which
// is made where it is missing and create is set.
func withService(ctx context.Context, data string, create bool, fn func(admin.Service) error) error {
	if err := checkData(data); err != nil {
		return err
	}
	s, err := daemon.Connect(ctx, data, version(), create)
	if err != nil {
		return err
	}
	err = fn(s)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return err
}

// askHash asks for a new password and hashes it.
func askHash(std streams, name string) (string, error) {
	password, err := askPassword(std, name)
	if err != nil {
		return "", err
	}
	hash, err := passwd.New(password)
	if err != nil {
		return "", fmt.Errorf("the password of %s cannot be used: %w", name, err)
	}
	return hash, nil
}

func askPassword(std streams, name string) (string, error) {
	fd := int(std.in.Fd())
	if !term.IsTerminal(fd) {
		line, err := bufio.NewReader(io.LimitReader(std.in, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("cannot read the password from standard input: %w", err)
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" {
			return "", errors.New("no password came on standard input: its first line is expected to be the password")
		}
		return line, nil
	}
	first, err := prompt(std, fd, "Password for "+name+": ")
	if err != nil {
		return "", err
	}
	again, err := prompt(std, fd, "The same again: ")
	if err != nil {
		return "", err
	}
	if !bytes.Equal(first, again) {
		return "", errors.New("the two passwords differ; nothing has been changed")
	}
	return string(first), nil
}

// prompt reads a line without showing it. The terminal is as it was before
// even when a signal ends the process meanwhile.
func prompt(std streams, fd int, text string) ([]byte, error) {
	state, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("cannot use the terminal: %w", err)
	}
	stop := onSignal(func() {
		_ = term.Restore(fd, state)
		fmt.Fprintln(std.err)
		os.Exit(exitFailure)
	})
	defer stop()
	fmt.Fprint(std.err, text)
	line, err := term.ReadPassword(fd)
	fmt.Fprintln(std.err)
	if err != nil {
		return nil, fmt.Errorf("cannot read the password: %w", err)
	}
	return line, nil
}

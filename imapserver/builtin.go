package imapserver

// builtin is the list of all extensions that this package has: IMAP4rev1, what
// every server of it must do, first; then one line for each extension. Nothing
// registers itself elsewhere.
func builtin() []*Extension {
	return []*Extension{
		rev2(), // first: clients look at the beginning of the line
		rev1(),
		saslPlain(),
		literalPlus(),
		saslIR(),
		id(),
		enable(),
		idle(),
		namespace(),
		children(),
		unselect(),
		uidPlus(),
		move(),
		multiAppend(),
		binary(),
		condStore(),
		qresync(),
		esearch(),
		searchRes(),
		within(),
		listExtended(),
		listStatus(),
		specialUse(),
		createSpecialUse(),
		statusSize(),
		compressDeflate(),
		utf8Accept(),
		appendLimit(),
		objectID(),
		saveDate(),
		preview(),
	}
}

// rev1 is IMAP4rev1 (RFC 3501).
func rev1() *Extension {
	return &Extension{
		Name: "IMAP4rev1", RFC: "3501",
		Capabilities: []Capability{
			{Name: "IMAP4rev1"},
			{Name: "STARTTLS", When: (*Conn).canStartTLS},
			{Name: "LOGINDISABLED", When: (*Conn).loginDisabled},
		},
		Commands: []*Command{
			capabilityCommand(), noopCommand(), checkCommand(), logoutCommand(),
			startTLSCommand(), authenticateCommand(), loginCommand(),
			selectCommand("SELECT"), selectCommand("EXAMINE"),
			createCommand(), deleteCommand(), renameCommand(),
			subscribeCommand("SUBSCRIBE"), subscribeCommand("UNSUBSCRIBE"),
			listCommand(), lsubCommand(), statusCommand(), appendCommand(),
			closeCommand(), expungeCommand(), searchCommand(), fetchCommand(),
			storeCommand(), copyCommand(),
		},
		FetchItems:  baseFetchItems(),
		SearchKeys:  baseSearchKeys(),
		StatusItems: baseStatusItems(),
	}
}

// rev2 is IMAP4rev2 (RFC 9051). Most of it are extensions that stand on their
// own in the list; what enabling it changes is asked for at its place as
// Conn.enabled.rev2.
func rev2() *Extension {
	return &Extension{
		Name: "IMAP4rev2", RFC: "9051",
		// RFC 9051 appendix E: what IMAP4rev2 has taken in.
		Requires: []string{
			"NAMESPACE", "UNSELECT", "UIDPLUS", "ESEARCH", "SEARCHRES", "ENABLE", "IDLE", "SASL-IR", "LIST-EXTENDED",
			"LIST-STATUS", "MOVE", "LITERAL+", "BINARY", "SPECIAL-USE", "STATUS=SIZE",
		},
		Capabilities: []Capability{{Name: "IMAP4rev2"}},
		StatusItems:  []*StatusItem{deletedStatusItem()},
		Enables: []*Enable{{Name: "IMAP4rev2", Run: func(c *Conn) {
			c.enabled.rev2 = true
			c.useUTF8()
		}}},
	}
}

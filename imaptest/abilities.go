package imaptest

import (
	"regexp"
	"slices"
	"strings"
)

// The abilities that a server has unless Target.Lacks says otherwise. What a
// script needs of them is read from the script itself.
const (
	canAppend      = "APPEND"      // clients add messages
	canExpunge     = "EXPUNGE"     // clients remove messages
	canFlag        = "FLAGS"       // clients set system flags
	canKeyword     = "KEYWORDS"    // clients make keywords of their own
	canCreate      = "CREATE"      // clients create, delete and rename mailboxes
	canKeepParent  = "HASCHILDREN" // a mailbox with children can be deleted
	canSubscribe   = "SUBSCRIBE"   // subscriptions are kept
	canKeepBytes   = "EXACT"       // messages are given back as they were added
	manyAccounts   = "ACCOUNTS"    // there is a second user
	plainPort      = "PLAIN-PORT"  // Server.DialPlain
	canRestart     = "RESTART"     // Server.Restart
	wordsOfContent = `\b(RFC822|BODY|BODYSTRUCTURE|ENVELOPE|BINARY|PREVIEW|EMAILID|SIZE|SMALLER|LARGER|SUBJECT|TEXT|HEADER|SENT[A-Z]+|INTERNALDATE|FROM|TO|CC|BCC)\b`
)

var abilities = []string{canAppend, canExpunge, canFlag, canKeyword, canCreate, canKeepParent, canSubscribe, canKeepBytes}

var (
	reAppend    = regexp.MustCompile(`^(APPEND|COPY|MOVE) `)
	reExpunge   = regexp.MustCompile(`^(EXPUNGE|CLOSE|MOVE )|^RENAME "?INBOX|\\DELETED`)
	reFlag      = regexp.MustCompile(`^STORE |^APPEND .*\(\\|FETCH .*\b(BODY\[|BINARY\[|RFC822([ )]|\.TEXT|$))`)
	reFlagShown = regexp.MustCompile(`READ-WRITE|PERMANENTFLAGS`)
	reKeyword   = regexp.MustCompile(`^(STORE|APPEND) .*\(([^)]* )?[$A-Z]|^STORE .*FLAGS(\.SILENT)? [$A-Z]|\bKEYWORD\b`)
	reCreate    = regexp.MustCompile(`^(CREATE|DELETE|RENAME) `)
	reDelete    = regexp.MustCompile(`^DELETE "?([^" ]+)"?$`)
	reSubscribe = regexp.MustCompile(`^(UN)?SUBSCRIBE |^LSUB |\bSUBSCRIBED\b`)
	reContent   = regexp.MustCompile(wordsOfContent)
	// Who proves who he is to become another needs another.
	reSecondUser = regexp.MustCompile(`\$(USER2|PASS2|PLAIN2|PROXY)\b`)
	reSeedWord   = regexp.MustCompile(`[( ][$A-Za-z]`)
)

// requires returns all that a script of a target cannot do without: the
// capabilities that its header names, and, for those of this package, the
// abilities that follow from its steps. Who writes a script for a server of his
// own may want it to be refused.
func (s *script) requires(target *Target) []string {
	needs := slices.Clone(s.needs)
	if s.dial == "plain" {
		needs = append(needs, plainPort)
	}
	if s.restarts {
		needs = append(needs, canRestart)
	}
	if target.Transcripts == nil {
		needs = s.infer(needs)
	}
	return needs
}

// lacks returns what a script cannot do without and the target is declared not
// to have, or "".
func (s *script) lacks(target *Target) string {
	for _, need := range s.requires(target) {
		if slices.Contains(target.Lacks, need) {
			return need
		}
	}
	return ""
}

// infer adds the abilities that follow from the steps of a script.
func (s *script) infer(needs []string) []string {
	add := func(on bool, need string) {
		if on && !slices.Contains(needs, need) {
			needs = append(needs, need)
		}
	}
	add(len(s.create) > 0, canCreate)
	add(len(s.seeds) > 0, canAppend)
	for _, user := range s.users {
		add(user == "2", manyAccounts)
	}
	for _, m := range s.seeds {
		add(m.flags != "", canFlag)
		add(reSeedWord.MatchString(m.flags), canKeyword)
		add(strings.Contains(m.flags, `\Deleted`), canExpunge)
		add(m.own || m.date != "", canKeepBytes)
	}
	all := strings.ToUpper(strings.Join(s.create, "\n")) + "\n"
	for _, line := range s.lines {
		all += strings.ToUpper(line) + "\n"
	}
	s.each(func(st step) {
		line := strings.ToUpper(st.text)
		switch st.op {
		case opSend, opHold, opRaw:
			line = strings.TrimPrefix(strings.TrimPrefix(line, "$TAG "), "UID ")
			add(reAppend.MatchString(line), canAppend)
			add(reExpunge.MatchString(line), canExpunge)
			add(reFlag.MatchString(line), canFlag)
			add(reKeyword.MatchString(line), canKeyword)
			add(reCreate.MatchString(line), canCreate)
			add(reSubscribe.MatchString(line), canSubscribe)
			if m := reDelete.FindStringSubmatch(line); m != nil {
				add(strings.Contains(all, m[1]+"/"), canKeepParent)
			}
		case opRecv, opOptional:
			add(reFlagShown.MatchString(line), canFlag)
			add(strings.Contains(line, `\*`), canKeyword)
			add(strings.Contains(line, `\DELETED`), canExpunge)
			add(strings.Contains(line, "[MAILBOXID "), "OBJECTID")
			add(strings.Contains(line, "[HIGHESTMODSEQ "), "CONDSTORE")
		}
		add(reSecondUser.MatchString(line), manyAccounts)
		add(reContent.MatchString(line), canKeepBytes)
	})
	return needs
}

// each calls f for all steps, also those in blocks.
func (s *script) each(f func(step)) {
	for _, st := range s.steps {
		f(st)
		for _, inner := range st.block {
			f(inner)
		}
	}
}

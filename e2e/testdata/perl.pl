# Drives a server with Perl's Mail::IMAPClient: TLS port, CA file, user and
# password are the arguments. Ends with "Mail::IMAPClient is content".
use strict;
use warnings;
use Mail::IMAPClient;

my ($port, $ca, $user, $password) = @ARGV;
my $imap = Mail::IMAPClient->new(
    Server   => 'localhost',
    Port     => $port,
    Ssl      => [ SSL_ca_file => $ca, SSL_verify_mode => 1 ],
    User     => $user,
    Password => $password,
    Uid      => 1,
    Peek     => 1,
) or die "cannot log in: $@";

sub must {
    my ($what, $got) = @_;
    defined $got or die "$what: ", $imap->LastError // 'nothing', "\n";
    return $got;
}

sub same {
    my ($what, $got, $want) = @_;
    $got eq $want or die "$what: got '$got', want '$want'\n";
}

my $text = "From: a\@x.org\r\nTo: b\@x.org\r\nSubject: =?UTF-8?Q?gr=C3=BCn?=\r\nMessage-ID: <1\@x.org>\r\n\r\nHello\r\n";
must('create', $imap->create('Perl'));
same('exists', $imap->exists('Perl') ? 1 : 0, 1);
my @uids = map { must('append', $imap->append_string('Perl', $text)) } 1 .. 3;
must('select', $imap->select('Perl'));
same('count', must('message_count', $imap->message_count), 3);
same('bytes', must('message_string', $imap->message_string($uids[0])), $text);
same('subject', $imap->subject($uids[1]), '=?UTF-8?Q?gr=C3=BCn?=');
same('body', $imap->body_string($uids[2]), "Hello\r\n");
same('size', $imap->size($uids[0]), length $text);
same('search', join(' ', $imap->search('TEXT', 'hello')), join(' ', @uids));
my $envelope = $imap->get_envelope($uids[0]) or die 'no envelope';
same('envelope', $envelope->messageid, '<1@x.org>');
my $structure = $imap->get_bodystructure($uids[0]) or die 'no body structure';
same('structure', $structure->bodytype . '/' . $structure->bodysubtype, 'TEXT/PLAIN');
must('set_flag', $imap->set_flag('Flagged', $uids[0]));
same('flagged', join(' ', $imap->search('FLAGGED')), $uids[0]);
must('copy', $imap->copy('INBOX', @uids));
must('move', $imap->move('INBOX', $uids[1]));
must('delete_message', $imap->delete_message($uids[2]));
must('expunge', $imap->expunge);
same('left', join(' ', $imap->messages), $uids[0]);
same('inbox', must('message_count', $imap->message_count('INBOX')), 4);
must('rename', $imap->rename('Perl', 'Gone'));
must('close', $imap->close);
must('delete', $imap->delete('Gone'));
must('logout', $imap->logout);
print "Mail::IMAPClient is content\n";

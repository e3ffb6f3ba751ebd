# The same append as append_min.py, in Perl with its core modules only. Arguments: FILE SENDER RCPT...
use strict;
use warnings;
use Fcntl qw(:DEFAULT :flock);
use IO::Handle;

my ($file, $sender, @rcpts) = @ARGV;
binmode STDIN;
my $body = do { local $/; <STDIN> };
sysopen(my $out, $file, O_WRONLY | O_APPEND | O_CREAT, 0600) or exit 75;
flock($out, LOCK_EX) or exit 75;
my $record = "MAIL FROM:<$sender>\r\n" . join('', map { "RCPT TO:<$_>\r\n" } @rcpts) . "DATA\r\n$body.\r\n";
(syswrite($out, $record) // 0) == length $record or exit 75;
$out->sync or exit 75;
exit 0;

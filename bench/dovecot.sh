# dovecot.sh: sourced by peers. Functions that run Debian's Dovecot with a
# throw-away configuration on loopback.

# dovecot_start DIR FORMAT IMAP_PORT IMAPS_PORT LMTP_PORT runs a Dovecot whose
# mail and sockets are in DIR, and sets PID to
# the file with its process. FORMAT is sdbox or maildir.
# What differs from Debian's defaults: limits high enough for the idle
# connections, one static plain password, no other services.
dovecot_start() {
	local dir=$1 format=$2 imap=$3 imaps=$4 lmtp=$5
	mkdir -p "$dir/mail" "$dir/run"
	chmod 755 "$dir" "$dir/run"
	chown mail:mail "$dir/mail"
	cat >"$dir/dovecot.conf" <<-CONF
		base_dir = $dir/run
		state_dir = $dir/run
		log_path = $dir/log
		protocols = imap lmtp
		listen = 127.0.0.1
		ssl = yes
		ssl_cert = <$tls/cert.pem
		ssl_key = <$tls/key.pem
		disable_plaintext_auth = no
		auth_username_format = %Ln
		mail_location = $format:~/$format
		mail_uid = mail
		mail_gid = mail
		first_valid_uid = 1
		mail_max_userip_connections = 100000
		postmaster_address = postmaster@localhost
		default_client_limit = 20000
		default_process_limit = 12000
		default_vsz_limit = 1G
		passdb {
		  driver = static
		  args = password=$password
		}
		userdb {
		  driver = static
		  args = home=$dir/mail/%n
		}
		service imap {
		  process_limit = 12000
		}
		service imap-login {
		  process_limit = 12000
		  inet_listener imap {
		    port = $imap
		  }
		  inet_listener imaps {
		    port = $imaps
		  }
		}
		service lmtp {
		  inet_listener lmtp {
		    port = $lmtp
		  }
		}
		service anvil {
		  client_limit = 50000
		}
		service auth {
		  client_limit = 50000
		}
	CONF
	dovecot -c "$dir/dovecot.conf"
	wait_port "$imap"
	PID=$dir/run/master.pid
}

# dovecot_stop DIR ends it.
dovecot_stop() {
	[ -f "$1/run/master.pid" ] || return 0
	local pid
	pid=$(cat "$1/run/master.pid")
	kill "$pid" 2>/dev/null || return 0
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}

# dovecot_restart DIR writes the command that restarts it.
dovecot_restart() {
	local pid="$1/run/master.pid"
	echo "p=\$(cat $pid); kill \$p; while kill -0 \$p 2>/dev/null; do sleep 0.05; done; dovecot -c $1/dovecot.conf >/dev/null 2>&1; while [ ! -f $pid ]; do sleep 0.05; done"
}

dovecot_version() { echo "Dovecot $(dovecot --version | cut -d' ' -f1) (Debian $(dpkg-query -W -f='${Version}' dovecot-core))"; }

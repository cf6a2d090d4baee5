# cyrus.sh: sourced by peers. Functions that run Debian's Cyrus IMAP with a
# throw-away configuration on loopback.

# cyrus_unpack DIR unpacks Debian's cyrus-imapd, which cannot be installed beside
# Dovecot, and sets CYRUS to the folder of its programs.
cyrus_unpack() {
	mkdir -p "$1/deb"
	(cd "$1/deb" && apt-get download -q cyrus-imapd && dpkg -x cyrus-imapd_*.deb .)
	CYRUS=$1/deb/usr/lib/cyrus/bin
}

# cyrus_start DIR IMAP_PORT IMAPS_PORT LMTP_PORT USERS runs a Cyrus whose files
# are in DIR, makes the users bench1 to benchN, and sets PID to the file with its process. Passwords are
# in a sasldb, which holds them in plain.
cyrus_start() {
	local dir=$1 imap=$2 imaps=$3 lmtp=$4 users=$5 i
	mkdir -p "$dir"/{conf,spool,run,sasl,sieve}
	for i in db log proc ptclient msg socket lock sync backup user quota; do mkdir -p "$dir/conf/$i"; done
	cat >"$dir/imapd.conf" <<-CONF
		configdirectory: $dir/conf
		partition-default: $dir/spool
		sievedir: $dir/sieve
		defaultpartition: default
		admins: cyrus
		sasl_pwcheck_method: auxprop
		sasl_auxprop_plugin: sasldb
		sasl_sasldb_path: $dir/sasl/sasldb2
		sasl_mech_list: PLAIN
		allowplaintext: yes
		virtdomains: off
		defaultdomain: localhost
		altnamespace: yes
		unixhierarchysep: yes
		maxlogins_per_user: 0
		maxlogins_per_host: 0
		popminpoll: 0
		lmtp_downcase_rcpt: yes
		autocreate_quota: -1
		tls_server_cert: $tls/cert.pem
		tls_server_key: $tls/key.pem
		idlesocket: $dir/conf/socket/idle
		lmtpsocket: $dir/conf/socket/lmtp
		notifysocket: $dir/conf/socket/notify
	CONF
	cat >"$dir/cyrus.conf" <<-CONF
		START {
		  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -r -C $dir/imapd.conf"
		}
		SERVICES {
		  imap  cmd="$CYRUS/imapd -C $dir/imapd.conf -U 30" listen="127.0.0.1:$imap" prefork=8 maxchild=12000
		  imaps cmd="$CYRUS/imapd -C $dir/imapd.conf -s -U 30" listen="127.0.0.1:$imaps" prefork=8 maxchild=12000
		  lmtp  cmd="lmtpd -C $dir/imapd.conf -a" listen="127.0.0.1:$lmtp" prefork=8 maxchild=100
		}
		DAEMON {
		  idled cmd="$CYRUS/idled -C $dir/imapd.conf"
		}
	CONF
	chown -R cyrus:mail "$dir"
	chmod 755 "$dir"
	rm -f "$dir/sasl/sasldb2"
	for i in cyrus $(seq -f 'bench%g' 1 "$users"); do
		# sasldb names a realm: that of the host.
		printf '%s' "$password" | saslpasswd2 -p -c -f "$dir/sasl/sasldb2" -u "$(hostname)" "$i"
	done
	chown cyrus:mail "$dir/sasl/sasldb2"
	/usr/sbin/cyrmaster -C "$dir/imapd.conf" -M "$dir/cyrus.conf" -p "$dir/run/master.pid" -d
	wait_port "$imap"
	sleep 1
	PID=$dir/run/master.pid
	cyrus_users "$imap" "$users"
}

# cyrus_users PORT N makes the INBOX of each user, as the administrator.
cyrus_users() {
	local i
	exec 9<>"/dev/tcp/127.0.0.1/$1"
	{
		printf 'a LOGIN cyrus %s\r\n' "$password"
		for i in $(seq 1 "$2"); do printf 'c%d CREATE user/bench%d\r\n' "$i" "$i"; done
		printf 'z LOGOUT\r\n'
	} >&9
	cat <&9 >/dev/null
	exec 9>&-
}

# cyrus_stop DIR ends it.
cyrus_stop() {
	[ -f "$1/run/master.pid" ] || return 0
	local pid
	pid=$(cat "$1/run/master.pid")
	kill "$pid" 2>/dev/null || return 0
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}

cyrus_version() { echo "Cyrus IMAP $(dpkg-query -W -f='${Version}' cyrus-common) (Debian)"; }

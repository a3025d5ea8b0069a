//! The tools that are measured. Each process, whatever the tool, says `ready` on its output once it could
//! begin, is told `go`, and says `done` once it has the file; then it goes on serving until it is killed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Who brings the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Ours.
    Swell,
    /// BitTorrent, set up as for a fleet: all peers known, no throttling by tit-for-tat timers.
    Libtorrent,
    /// One web server, and everybody downloads from it.
    Http,
}

/// A process of a run, and what it is for.
pub(crate) struct Part<'a> {
    /// 0 is the origin.
    pub(crate) host: usize,
    pub(crate) addresses: &'a [String],
    /// For this process alone.
    pub(crate) directory: &'a Path,
    pub(crate) payload: &'a Path,
}

const TORRENT: &str = include_str!("torrent.py");

impl Tool {
    pub(crate) const ALL: [Self; 3] = [Self::Swell, Self::Libtorrent, Self::Http];

    pub(crate) fn named(name: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name).join(", ");
        let named = Self::ALL.into_iter().find(|tool| tool.name() == name);
        named.with_context(|| format!("--only is one of {names}"))
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Swell => "swell",
            Self::Libtorrent => "libtorrent",
            Self::Http => "http",
        }
    }

    /// What this machine lacks for it.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let works = |command: &str| {
            let status = Command::new("sh").args(["-c", command]).output();
            status.is_ok_and(|output| output.status.success())
        };
        match self {
            Self::Swell => None,
            Self::Libtorrent => (!works("/usr/bin/python3 -c 'import libtorrent'"))
                .then_some("python3-libtorrent is missing"),
            Self::Http => (!works("PATH=$PATH:/usr/sbin command -v nginx && command -v curl"))
                .then_some("nginx or curl is missing"),
        }
    }

    /// The process of one host.
    pub(crate) fn command(self, part: &Part<'_>) -> Result<Command> {
        let mut command = match self {
            Self::Swell => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("node").arg(part.host.to_string()).args(part.addresses);
                command
            }
            Self::Libtorrent => {
                let mut command = Command::new("/usr/bin/python3");
                command.args(["-c", TORRENT, &part.host.to_string()]).args(part.addresses);
                command
            }
            Self::Http if part.host == 0 => {
                let mut command = Command::new("sh");
                command.args(["-c", NGINX]);
                command
            }
            Self::Http => {
                let mut command = Command::new("sh");
                command
                    .args(["-c", CURL])
                    .env("URL", format!("http://{}:8080/file", part.addresses[0]));
                command
            }
        };
        command.current_dir(part.directory).env("PAYLOAD", part.payload);
        Ok(command)
    }
}

const NGINX: &str = r#"
PATH=$PATH:/usr/sbin
ln -s "$PAYLOAD" file
cat > nginx.conf <<END
pid nginx.pid; error_log stderr; daemon off; user root; worker_processes 1;
events {}
http { access_log off; sendfile on; client_body_temp_path . ; proxy_temp_path . ; fastcgi_temp_path . ;
    uwsgi_temp_path . ; scgi_temp_path . ; server { listen 8080; root $PWD; } }
END
nginx -p . -c nginx.conf &
sleep 1; echo ready; wait
"#;

const CURL: &str = r#"
echo ready; read go
curl --silent --show-error --fail --output file "$URL" && echo done
cat > /dev/null
"#;

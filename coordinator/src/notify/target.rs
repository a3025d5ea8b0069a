//! Where a notification goes: a URL, of which only the origin is ever shown.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

/// An https URL, or an http URL to an address of this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Path and query, with the slash before them.
    pub(super) path: String,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in few words, without any part of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "it does not parse")?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it does not start with https://"),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it names a user");
        }
        // `https://host:99999` parses, with no port.
        if authority.port_u16().is_none() && authority.as_str().len() != authority.host().len() {
            return Err("its port is not 1 to 65535");
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_ascii_lowercase();
        if host.is_empty() {
            return Err("it names no host");
        }
        let here = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !tls && !here {
            return Err("http:// is only for addresses of this machine, like 127.0.0.1");
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host, port, tls, path })
    }

    /// What may be shown: `https://example.com`, with a port that is not the usual one.
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// As the header `host` has it.
    pub(super) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Whether it has neither a path nor a query.
    pub(super) fn is_bare(&self) -> bool {
        self.path == "/"
    }

    /// The same host, another path.
    pub(super) fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_shown_table() {
        let cases = [
            ("https://Example.com", "https://example.com", "/"),
            ("https://example.com:443/a?b=c", "https://example.com", "/a?b=c"),
            ("https://example.com:8443/T0/B0/x", "https://example.com:8443", "/T0/B0/x"),
            ("https://[2001:db8::1]/", "https://[2001:db8::1]", "/"),
            ("http://127.0.0.1:80/x", "http://127.0.0.1", "/x"),
            ("http://127.9.9.9:81", "http://127.9.9.9:81", "/"),
            ("http://[::1]:81/", "http://[::1]:81", "/"),
        ];
        for (url, origin, path) in cases {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.origin().as_str(), target.path.as_str()), (origin, path), "{url}");
            assert_eq!(format!("{target:?}"), format!("Target({origin})"), "no path is shown");
        }
    }

    #[test]
    fn refused_table() {
        let plain = "http:// is only for addresses of this machine, like 127.0.0.1";
        let cases = [
            ("", "it does not parse"),
            ("example.com/hook", "it does not parse"),
            ("ftp://example.com/", "it does not start with https://"),
            ("https://me:secret@example.com/", "it names a user"),
            ("https://example.com:99999/", "its port is not 1 to 65535"),
            ("http://example.com/hook", plain),
            // A name may be anybody's.
            ("http://localhost/hook", plain),
            ("http://10.0.0.1/hook", plain),
        ];
        for (url, why) in cases {
            assert_eq!(Target::parse(url).err(), Some(why), "{url}");
        }
    }
}
